"""How fast loopjax is: every measurement in a pair with a peer, interleaved in one run, median and spread.

Peers: a tuned PyTorch student of the same shape, in the best of its variants for each measurement, and samplers in
NumPy and plain Python. Needs the extra `bench`, and for fair figures a machine with nothing else running.

  python -m experiments.benchmarks.benchmark --output=benchmark.json --only="train_same_shapes, width 64"
"""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from absl import flags

from experiments.benchmarks import rates
from experiments.benchmarks.peers import numpy_sampler
from experiments.benchmarks.rates import SECONDS, TASK, Rate, scaled, student
from loopjax.generation import processors
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import at_temperatures
from loopjax.runtime import command_line, devices, files, provenance
from loopjax.runtime.config import require
from loopjax.star_graph import encoding
from loopjax.star_graph.objective import row_length
from loopjax.training.step import Training

# Width, layers, heads, rows a step: what both sides train.
SHAPES = ((64, 2, 4, 64), (128, 4, 4, 64), (256, 4, 4, 32), (768, 12, 12, 4))
NEED_MORE_THAN_LOGITS = ("contrastive_decoding", "contrastive_search")  # these cost further passes of a model
SECONDS_TO_CHOOSE = 2.0  # of each of PyTorch's variants, before the best is measured


@dataclasses.dataclass(frozen=True)
class Measurement:
  """A pair to measure: two functions that each give a rate in `unit`, and what the peer is; `close` when done."""

  unit: str
  ours: Rate
  peer: Rate
  peer_is: str
  close: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Case:
  """A measurement by name, and how to make it: compiled programs and peers at work are made when it is its turn."""

  name: str
  make: Callable[[], Measurement]


@dataclasses.dataclass(frozen=True)
class Record:
  """Medians over repetitions; `spread` is the half range of the paired ratios over their median."""

  name: str
  ours: float
  peer: float
  ratio: float
  unit: str
  spread: float
  peer_is: str


def measure(case: Case, repetitions: int) -> Record:
  """Both sides in turn, `repetitions` times; the ratio is the median of the ratios within a turn."""
  measurement = case.make()
  rates = np.array([(measurement.ours(), measurement.peer()) for _ in range(repetitions)])
  ratios = rates[:, 0] / rates[:, 1]
  ours, peer = np.median(rates, axis=0)
  ratio = float(np.median(ratios))
  measurement.close()
  return Record(
    case.name, float(ours), float(peer), ratio, measurement.unit, float(np.ptp(ratios)) / 2 / ratio,
    measurement.peer_is,
  )  # fmt: skip


def _training_pair(width: int, num_layers: int, num_heads: int, rows: int, packed: bool) -> Measurement:
  """Our student against PyTorch's; what is not packed is padded to the cut, PyTorch's batches else to their longest."""
  from experiments.benchmarks.peers.torch_student import Trainer
  from experiments.benchmarks.peers.torch_workers import best_torch

  model = student(width, num_layers, num_heads)
  workers = best_torch(Trainer, (TASK, model, rows), (not packed, 0), (SECONDS_TO_CHOOSE,))
  ours = rates.training_rate(model, Training(rows_per_step=max(rows // 4, 1) if packed else rows, packed=packed))
  peer = functools.partial(workers.rate, SECONDS)
  unit, factor = ("walks/s", 1 / rates.mean_walk_length(TASK)) if packed else ("trained positions/s", 1.0)
  return Measurement(unit, scaled(ours, factor), scaled(peer, factor), str(workers.variant), workers.close)


def _of_shapes(name: str, make: Callable[..., Measurement], **settings: Any) -> Iterator[Case]:
  for shape in SHAPES:
    yield Case(f"{name}, width {shape[0]}, {shape[1]} layers", functools.partial(make, *shape, **settings))


def train_same_shapes() -> Iterator[Case]:
  """One walk a row on either side, padded to the cut."""
  return _of_shapes("train_same_shapes", _training_pair, packed=False)


def train_at_best() -> Iterator[Case]:
  """Our streams packed with walks; PyTorch pads each batch to its longest walk."""
  return _of_shapes("train_at_best", _training_pair, packed=True)


def _rollout_pair(width: int, num_layers: int, num_heads: int, num_walks: int) -> Measurement:
  from experiments.benchmarks.peers.torch_student import Generator
  from experiments.benchmarks.peers.torch_workers import best_torch

  model = student(width, num_layers, num_heads)
  workers = best_torch(Generator, (TASK, model, num_walks), (0,), ())
  ours = rates.rollout_rate(model, num_walks)
  return Measurement("walk positions/s", ours, workers.rate, str(workers.variant), workers.close)


def rollouts() -> Iterator[Case]:
  """Rollouts of 128 steps with a KV cache, none stopped early on either side."""
  for width, num_layers, num_heads, _ in SHAPES[:2]:
    for num_walks in (64, 1024):
      make = functools.partial(_rollout_pair, width, num_layers, num_heads, num_walks)
      yield Case(f"rollouts, width {width}, {num_walks} walks", make)


def _all_processors_pair(width: int, num_layers: int, num_heads: int, num_walks: int) -> Measurement:
  """Strengths are neutral: they are traced, so others cost the same."""
  model = student(width, num_layers, num_heads)
  kinds = processors.all_processors()
  chain = tuple(kind() for name, kind in kinds.items() if name not in (*NEED_MORE_THAN_LOGITS, Temperature.name))
  ours = rates.rollout_rate(model, num_walks, at_temperatures([1.0], *chain))
  return Measurement("walk positions/s", ours, rates.rollout_rate(model, num_walks), "ours at temperature 1 alone")


def all_processors() -> Iterator[Case]:
  """Rollouts with all logits processors at once, against plain decoding."""
  for width, num_layers, num_heads, _ in SHAPES[:2]:
    for num_walks in (64, 1024):
      make = functools.partial(_all_processors_pair, width, num_layers, num_heads, num_walks)
      yield Case(f"all processors, width {width}, {num_walks} walks", make)


def _against_plain_python() -> Measurement:
  rng = random.Random(0)
  peer = functools.partial(rates.per_second, lambda: numpy_sampler.sample_plainly(TASK, rng), 1)
  return Measurement("graphs/s", rates.sampler_rate(), peer, "plain Python, one process")


def _against_numpy() -> Measurement:
  rng = np.random.default_rng(0)
  peer = functools.partial(rates.per_second, lambda: numpy_sampler.sample_batch(TASK, rng, 1024), 1024)
  return Measurement("graphs/s", rates.sampler_rate(), peer, "NumPy, one process")


def _share_of_a_step(width: int, num_layers: int, num_heads: int, rows: int) -> Measurement:
  """Train steps, sampling included, over batches sampled alone in the same time: the sampler's share of a step."""
  model, config = student(width, num_layers, num_heads), Training(rows_per_step=max(rows // 4, 1))
  batches = scaled(rates.sampler_rate(config.rows_per_step, packed=True), 1 / config.rows_per_step)
  steps = scaled(
    rates.training_rate(model, config),
    1 / (config.rows_per_step * row_length(TASK, config) * rates.trained_share(config)),
  )
  return Measurement("batches/s", steps, batches, "our sampler alone")


def sampler() -> Iterator[Case]:
  """Graphs with walks per second; the sampler's share of a train step."""
  yield Case("sampler, against plain Python", _against_plain_python)
  yield Case("sampler, against NumPy", _against_numpy)
  yield from _of_shapes("sampler's share of a train step", _share_of_a_step)


def _against_products(width: int, num_layers: int, num_heads: int, rows: int) -> Measurement:
  model, config = student(width, num_layers, num_heads), Training(rows_per_step=max(rows // 4, 1))
  stream = row_length(TASK, config)
  per_row = rates.floating_point_operations(model, TASK, encoding.prompt_length(TASK), stream)
  ours = scaled(rates.training_rate(model, config), per_row / (stream * rates.trained_share(config)) / 1e9)
  products = scaled(rates.product_rate(width, model.mlp_ratio, model.matmul_dtype), 1e-9)
  return Measurement("GFLOP/s", ours, products, f"bare products, {model.matmul_dtype}")


def roofline() -> Iterator[Case]:
  """The train step's floating-point operations per second against those of bare products: the ratio is the share."""
  return _of_shapes("roofline", _against_products)


SUITES = (train_same_shapes, train_at_best, rollouts, all_processors, sampler, roofline)


def table(records: list[Record]) -> str:
  """The records, a line each."""
  return pd.DataFrame(map(dataclasses.asdict, records)).to_string(index=False, float_format="{:,.4g}".format)


def main() -> None:
  require(not os.path.isdir(_OUTPUT.value or ""), "output", _OUTPUT.value, "a file, and there is a folder")
  records: list[Record] = []
  for suite in SUITES:
    cases = [case for case in suite() if re.search(_ONLY.value, case.name)]
    if cases:
      print(f"\n== {suite.__name__}: {(suite.__doc__ or '').strip()}", flush=True)
    for case in cases:
      records.append(measure(case, _REPETITIONS.value))
      print(table(records[-1:]), flush=True)
  print(f"\n{table(records)}")
  if _OUTPUT.value:
    machine = provenance.provenance()
    files.write_json([dataclasses.asdict(record) | {"machine": machine} for record in records], _OUTPUT.value)


if __name__ == "__main__":
  devices.use_all_cores()
  _OUTPUT = flags.DEFINE_string("output", None, "File for the records, as JSON.")
  _ONLY = flags.DEFINE_string("only", "", "Regular expression: the measurements to run, by name.")
  _REPETITIONS = flags.DEFINE_integer("repetitions", 5, "Turns of each pair.", lower_bound=1)
  command_line.run_main(main)
