"""What `reproduce` runs at each preset, in numbers. `standard` was last changed after pilots (docs/learning.md) and
before its one full run; `quick`, `paper` and all of temporal errors and injected loops were chosen before a first run
(the steps of the latter's map were halved for time, still before it).

`quick`: 2 CPU cores, minutes; small graphs. `standard`: a laptop in hours, one accelerator in minutes; at most 10M
trained positions a seed. `paper`: the published student, accelerators.
"""

from __future__ import annotations

import dataclasses

from experiments.injected_loops import InjectedLoops
from experiments.proposition_one import PropositionOne
from experiments.risk_aversion import RiskAversion
from experiments.temporal_errors import TemporalErrors
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer


@dataclasses.dataclass(frozen=True)
class Preset:
  """The experiments' settings at one preset."""

  risk_aversion: RiskAversion
  proposition_one: PropositionOne
  temporal_errors: TemporalErrors
  injected_loops: InjectedLoops

  @property
  def confidence(self) -> InjectedLoops:
    """The experiment reads what the students of injected loops showed."""
    return self.injected_loops


_QUICK = Preset(
  risk_aversion=RiskAversion(
    easy=StarGraph(num_chains=5, chain_length=1, max_steps=32, explore_prob=0.5),
    hard=StarGraph(num_chains=5, chain_length=3, max_steps=32, explore_prob=0.5),
    model=Transformer(num_layers=2, num_heads=4, width=64),
    training=Training(num_steps=600, rows_per_step=16, learning_rate=3e-3),
    temperatures=(0.0, 0.5, 1.0),
    num_seeds=4,
    num_graphs=128,
  ),
  proposition_one=PropositionOne(
    task=StarGraph(chain_length=1, goal_hidden=True, max_steps=16),
    num_children=(3,),
    cycle_probs=(0.1, 0.5),
    model=Transformer(num_layers=2, num_heads=4, width=64),
    training=Training(num_steps=400, rows_per_step=16, learning_rate=3e-3),
    num_visits=4,
    num_seeds=4,
    num_graphs=256,
  ),
  temporal_errors=TemporalErrors(
    task=StarGraph(num_chains=4, chain_length=2, max_steps=24, reset_prob=0.0, explore_prob=1.0),
    visited_margins=(0.0, 0.1),
    model=Transformer(num_layers=2, num_heads=4, width=64),
    training=Training(num_steps=800, rows_per_step=16, learning_rate=3e-3),
    temperatures=(0.0, 0.5, 1.0),
    num_seeds=4,
    num_graphs=64,
    walks_per_graph=2,
    num_lags=3,
  ),
  injected_loops=InjectedLoops(
    task=StarGraph(num_chains=4, chain_length=2, max_steps=24, reset_prob=0.0, explore_prob=1.0),
    shares=(0.0, 1e-2),
    model=Transformer(num_layers=2, num_heads=4, width=64),
    training=Training(num_steps=1_000, rows_per_step=16, learning_rate=3e-3),
    num_seeds=4,
    temperatures=(0.0, 0.5, 1.0),
    num_graphs=128,
    repetitions=(1, 2, 5),
  ),
)

_STANDARD = Preset(
  risk_aversion=RiskAversion(
    easy=StarGraph(num_chains=5, chain_length=3, max_steps=64, explore_prob=0.5),
    hard=StarGraph(num_chains=5, chain_length=5, max_steps=64, explore_prob=0.5),
    model=Transformer(num_layers=4, num_heads=2, width=64, positions="none", prompt_attention="bidirectional"),
    training=Training(num_steps=4_500, rows_per_step=16, learning_rate=3e-3),
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    num_seeds=16,
    num_graphs=256,
  ),
  proposition_one=PropositionOne(
    task=StarGraph(chain_length=1, goal_hidden=True, max_steps=24),
    num_children=(2, 3, 5, 8),
    cycle_probs=(0.1, 0.15, 0.3, 0.5),
    model=Transformer(num_layers=1, num_heads=4, width=64),
    training=Training(num_steps=10_000, rows_per_step=4, learning_rate=6e-3),
    num_visits=9,
    num_seeds=4,
    num_graphs=1_024,
  ),
  temporal_errors=TemporalErrors(
    task=StarGraph(num_chains=5, chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0),
    visited_margins=(0.0, 0.1),
    model=Transformer(num_layers=2, num_heads=4, width=64),
    training=Training(num_steps=9_500, rows_per_step=16, learning_rate=3e-3),
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    num_seeds=16,
    num_graphs=128,
    walks_per_graph=4,
    num_lags=10,
  ),
  injected_loops=InjectedLoops(
    task=StarGraph(num_chains=5, chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0),
    easy=StarGraph(num_chains=5, chain_length=3, max_steps=64, explore_prob=0.5),
    shares=(0.0, 1e-3),
    model=Transformer(num_layers=2, num_heads=4, width=64),
    training=Training(num_steps=9_500, rows_per_step=16, learning_rate=3e-3),
    num_seeds=16,
    map_kinds=("root", "child", "cycle"),
    map_shares=(0.0, 1e-4, 1e-3, 1e-2),
    map_training=Training(num_steps=2_000, rows_per_step=16, learning_rate=3e-3),
    map_seeds=4,
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    num_graphs=256,
    repetitions=(1, 2, 5, 10),
  ),
)

_PAPER_STUDENT = Transformer(num_layers=12, num_heads=12, width=768, matmul_dtype="bfloat16", remat=True)

_PAPER = Preset(
  risk_aversion=RiskAversion(
    easy=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
    hard=StarGraph(num_chains=5, chain_length=5, max_steps=128, explore_prob=0.5),
    model=_PAPER_STUDENT,
    training=Training(num_steps=20_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=1_000),
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    num_seeds=4,
    num_graphs=1_024,
  ),
  proposition_one=PropositionOne(
    task=StarGraph(chain_length=1, goal_hidden=True, max_steps=24),
    model=_PAPER_STUDENT,
    training=Training(num_steps=5_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=500),
    num_seeds=4,
  ),
  temporal_errors=TemporalErrors(
    task=StarGraph(num_chains=5, chain_length=3, max_steps=128, reset_prob=0.0, explore_prob=1.0),
    visited_margins=(0.0, 0.05, 0.1),
    model=_PAPER_STUDENT,
    training=Training(num_steps=20_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=1_000),
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    num_seeds=4,
    num_graphs=128,
    walks_per_graph=2,
    num_lags=10,
  ),
  injected_loops=InjectedLoops(
    task=StarGraph(num_chains=5, chain_length=3, max_steps=128, reset_prob=0.0, explore_prob=1.0),
    shares=(0.0, 1e-3),
    model=_PAPER_STUDENT,
    training=Training(num_steps=20_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=1_000),
    num_seeds=4,
    temperatures=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    num_graphs=1_024,
    repetitions=(1, 2, 5, 10),
  ),
)

PRESETS = {"quick": _QUICK, "standard": _STANDARD, "paper": _PAPER}
