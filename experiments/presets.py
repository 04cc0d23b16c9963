"""What `reproduce` runs at each preset, in numbers. Students are sized so that they are fit, by pilots that looked at
losses and broken walks alone (docs/learning.md); nothing here was chosen after a claim was looked at.

`quick`: 2 CPU cores, minutes; small graphs. `standard`: a laptop in hours, one accelerator in minutes. `paper`: the
published student, accelerators.
"""

from __future__ import annotations

import dataclasses

from experiments.injected_loops import InjectedLoops
from experiments.proposition_one import PropositionOne
from experiments.risk_aversion import RiskAversion
from experiments.temporal_errors import TemporalErrors
from loopjax.models.transformer import Transformer
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training


@dataclasses.dataclass(frozen=True)
class Preset:
  """The experiments' settings at one preset."""

  risk_aversion: RiskAversion
  proposition_one: PropositionOne
  temporal_errors: TemporalErrors
  fixed_graph: TemporalErrors
  injected_loops: InjectedLoops

  @property
  def confidence(self) -> InjectedLoops:
    """The experiment reads what the students of injected loops showed."""
    return self.injected_loops


def _student(num_layers: int) -> Transformer:
  """A small student that soon reads the graph: without positions, its prompt read both ways (docs/learning.md)."""
  return Transformer(
    num_layers=num_layers, num_heads=2 if num_layers == 4 else 4, width=64, positions="none",
    prompt_attention="bidirectional", matmul_dtype="bfloat16",
  )  # fmt: skip


def _quick() -> Preset:
  """The hard task does not tell the goal: it is hard in the limit, and stays so however long a student trains.

  There is no margin: students take longer than minutes to learn one.
  """
  model, task = _student(1), StarGraph(num_chains=4, chain_length=2, max_steps=32, explore_prob=0.5, goal_hidden=True)
  training, temperatures = Training(num_steps=1_000, rows_per_step=16, learning_rate=8e-3), (0.0, 0.4, 1.0)
  return Preset(
    risk_aversion=RiskAversion(
      easy=StarGraph(num_chains=4, chain_length=1, max_steps=32, explore_prob=0.5),
      hard=task,
      model=model,
      training=training,
      temperatures=temperatures,
      num_seeds=6,
      num_graphs=128,
    ),
    proposition_one=PropositionOne(
      task=StarGraph(chain_length=1, goal_hidden=True, max_steps=16),
      num_children=(3,),
      cycle_probs=(0.1, 0.5),
      model=model,
      training=Training(num_steps=600, rows_per_step=16, learning_rate=8e-3),
      num_visits=4,
      num_seeds=6,
      num_graphs=256,
    ),
    temporal_errors=TemporalErrors(
      task=StarGraph(num_chains=4, chain_length=1, max_steps=24, reset_prob=0.0, explore_prob=1.0),
      visited_margins=(0.0,),
      model=model,
      training=Training(num_steps=1_200, rows_per_step=16, learning_rate=8e-3),
      temperatures=temperatures,
      num_seeds=6,
      num_graphs=64,
      walks_per_graph=2,
      num_lags=3,
    ),
    fixed_graph=TemporalErrors(
      task=StarGraph(num_chains=4, chain_length=1, max_steps=24, reset_prob=0.0, explore_prob=1.0, graph_fixed=True),
      visited_margins=(0.0,),
      drawings=(0,),
      model=model,
      training=Training(num_steps=400, rows_per_step=16, learning_rate=8e-3),
      temperatures=temperatures,
      num_seeds=6,
      num_graphs=64,
      walks_per_graph=2,
      num_lags=3,
    ),
    injected_loops=InjectedLoops(
      task=dataclasses.replace(task, chain_length=1),
      shares=(0.0, 0.1),
      model=_student(2),
      training=Training(num_steps=800, rows_per_step=16, learning_rate=5e-3),
      num_seeds=6,
      temperatures=temperatures,
      num_graphs=128,
      num_cycles=12,
      repetitions=(1, 2, 5, 10),
    ),
  )  # fmt: skip


_WARMER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def _standard() -> Preset:
  no_hardness = StarGraph(num_chains=5, chain_length=3, max_steps=64, reset_prob=0.0, explore_prob=1.0)
  rotary = Transformer(num_layers=2, num_heads=4, width=64, matmul_dtype="bfloat16")
  return Preset(
    risk_aversion=RiskAversion(
      easy=StarGraph(num_chains=5, chain_length=3, max_steps=64, explore_prob=0.5),
      hard=StarGraph(num_chains=5, chain_length=5, max_steps=64, explore_prob=0.5),
      model=_student(4),
      training=Training(num_steps=4_500, rows_per_step=16, learning_rate=3e-3),
      hard_steps=12_000,
      easy_goal_first=True,
      temperatures=_WARMER,
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
      num_seeds=16,
      num_graphs=1_024,
    ),
    temporal_errors=TemporalErrors(
      task=no_hardness,
      visited_margins=(0.0, 0.1),
      model=rotary,
      training=Training(num_steps=9_500, rows_per_step=16, learning_rate=3e-3),
      temperatures=_WARMER,
      num_seeds=16,
      num_graphs=128,
      walks_per_graph=4,
      num_lags=10,
    ),
    fixed_graph=TemporalErrors(
      task=dataclasses.replace(no_hardness, max_steps=128, graph_fixed=True),
      visited_margins=(0.0, 0.05, 0.1),
      drawings=(0, 1, 2, 3),
      model=rotary,
      training=Training(num_steps=2_000, rows_per_step=16, learning_rate=3e-3),
      temperatures=_WARMER,
      num_seeds=4,
      num_graphs=128,
      walks_per_graph=4,
      num_lags=10,
    ),
    injected_loops=InjectedLoops(
      task=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
      shares=(0.0, 1e-3, 1e-2),
      model=_student(2),
      training=Training(num_steps=20_000, rows_per_step=16, learning_rate=3e-3),
      num_seeds=16,
      temperatures=_WARMER,
      num_graphs=256,
      num_cycles=20,
      repetitions=(1, 2, 5, 10),
    ),
  )  # fmt: skip


def _paper() -> Preset:
  model = Transformer(num_layers=12, num_heads=12, width=768, matmul_dtype="bfloat16", remat=True)
  training = Training(num_steps=20_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=1_000)
  no_hardness = StarGraph(num_chains=5, chain_length=3, max_steps=128, reset_prob=0.0, explore_prob=1.0)
  return Preset(
    risk_aversion=RiskAversion(
      easy=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
      hard=StarGraph(num_chains=5, chain_length=5, max_steps=128, explore_prob=0.5),
      model=model,
      training=training,
      temperatures=_WARMER,
      num_seeds=6,
      num_graphs=1_024,
    ),
    proposition_one=PropositionOne(
      task=StarGraph(chain_length=1, goal_hidden=True, max_steps=24),
      model=model,
      training=Training(num_steps=5_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=500),
      num_seeds=6,
    ),
    temporal_errors=TemporalErrors(
      task=no_hardness,
      visited_margins=(0.0, 0.05, 0.1),
      model=model,
      training=training,
      temperatures=_WARMER,
      num_seeds=6,
      num_graphs=128,
      walks_per_graph=2,
      num_lags=10,
    ),
    fixed_graph=TemporalErrors(
      task=dataclasses.replace(no_hardness, graph_fixed=True),
      visited_margins=(0.0, 0.05, 0.1),
      drawings=(0, 1),
      model=model,
      training=training,
      temperatures=_WARMER,
      num_seeds=3,
      num_graphs=128,
      walks_per_graph=2,
      num_lags=10,
    ),
    injected_loops=InjectedLoops(
      task=StarGraph(num_chains=5, chain_length=3, max_steps=128, explore_prob=0.5),
      shares=(0.0, 1e-3),
      model=model,
      training=training,
      num_seeds=6,
      temperatures=_WARMER,
      num_graphs=1_024,
      num_cycles=20,
      repetitions=(1, 2, 5, 10),
    ),
  )  # fmt: skip


PRESETS = {"quick": _quick(), "standard": _standard(), "paper": _paper()}
