"""How fast loopjax is: every measurement in a pair with a peer, interleaved in one run, median and spread.

Peers: a tuned PyTorch student of the same shape, in the best of its variants for each measurement, and samplers in
NumPy and plain Python. Needs the extra `bench`, and for fair figures a machine with nothing else running.

  python -m experiments.benchmark --output=benchmark.json --only="train_same_shapes, width 64"
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl import flags

from experiments.peers import numpy_sampler
from loopjax import config as configs
from loopjax import decoding, encoding, files, provenance, runner, seeds, teacher, training
from loopjax.products import cpu_multiplies_bfloat16
from loopjax.star_graph import StarGraph
from loopjax.training import Training
from loopjax.transformer import Transformer

TASK = StarGraph(num_chains=5, chain_length=5, max_steps=128)
# Width, layers, heads, rows a step: what both sides train.
SHAPES = ((64, 2, 4, 64), (128, 4, 4, 64), (256, 4, 4, 32), (768, 12, 12, 4))
SECONDS = 4.0  # of one measurement
SECONDS_TO_CHOOSE = 2.0  # of each of PyTorch's variants, before the best is measured

Rate = Callable[[], float]


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


def student(width: int, num_layers: int, num_heads: int) -> Transformer:
  """Our student of this shape, with the operands that this machine multiplies fastest."""
  narrow = jax.default_backend() != "cpu" or cpu_multiplies_bfloat16()
  dtype = "bfloat16" if narrow else "float32"
  return Transformer(num_layers=num_layers, num_heads=num_heads, width=width, matmul_dtype=dtype)


def training_rate(model: Transformer, config: Training) -> Rate:
  """Positions trained per second, summed over seeds, one seed per device."""
  mesh = seeds.device_mesh()
  num_seeds = mesh.shape[seeds.SEED]
  objective = training.teacher_forcing(TASK, model, config)
  run = seeds.map_seeds(lambda state, steps: training.run_chunk(objective, config, state, steps), mesh, donate=True)
  state = runner.initial_states([TASK], model, config, range(num_seeds), mesh)
  steps = 1

  def rate() -> float:
    nonlocal state, steps
    began = time.perf_counter()
    state, metrics = run(state, jnp.int32(steps))
    positions = steps * float(np.sum(seeds.to_host(metrics.trained_positions, num_seeds)))
    seconds = time.perf_counter() - began
    steps = max(1, round(steps * SECONDS / seconds))
    return positions / seconds

  rate(), rate()  # compiles, then finds how many steps fit
  return rate


def scaled(rate: Rate, factor: float) -> Rate:
  """The same rate in another unit."""
  return lambda: factor * rate()


class TorchWorkers:
  """PyTorch in processes of its own: its threads and ours do not meet, and several students can train side by side."""

  def __init__(self, variant: Any, make: Callable[..., Any], *arguments: Any):
    context = multiprocessing.get_context("spawn")
    self.variant = variant
    self.pools = [concurrent.futures.ProcessPoolExecutor(1, context) for _ in range(variant.num_processes)]
    self._all(_make, make, *arguments)

  def _all(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [done.result() for done in [pool.submit(function, *arguments) for pool in self.pools]]

  def rate(self, *arguments: Any) -> float:
    """The sum of the processes' rates, measured at once."""
    return sum(self._all(_rate, *arguments))

  def close(self) -> None:
    for pool in self.pools:
      pool.shutdown()


_made: Any = None  # what a worker process holds


def _make(make: Callable[..., Any], *arguments: Any) -> None:
  global _made  # noqa: PLW0603  a worker process has one
  _made = make(*arguments)


def _rate(*arguments: Any) -> float:
  return _made.rate(*arguments)


def best_torch(make: Callable[..., Any], arguments: tuple[Any, ...], last: tuple[Any, ...], call: tuple[Any, ...]):
  """The workers of the variant of PyTorch with the highest rate; `make(*arguments, variant, *last)` builds one."""
  from experiments.peers.torch_student import Variant

  cores = len(os.sched_getaffinity(0))
  best, best_rate = None, 0.0
  for num_processes, num_threads in {(1, cores), (cores, 1)}:
    for autocast, compiled in ((False, False), (True, False), (False, True)):
      variant = Variant(num_processes, num_threads, autocast, compiled)
      workers = TorchWorkers(variant, make, *arguments, variant, *last)
      workers.rate(*call)  # warms up and compiles
      rate = workers.rate(*call)
      print(f"  PyTorch, {variant}: {rate:,.0f}", flush=True)
      best, best_rate, worse = (workers, rate, best) if rate > best_rate else (best, best_rate, workers)
      if worse is not None:
        worse.close()
  return best


def _training_pair(width: int, num_layers: int, num_heads: int, rows: int, packed: bool) -> Measurement:
  """Our student against PyTorch's; what is not packed is padded to the cut, PyTorch's batches else to their longest."""
  from experiments.peers.torch_student import Trainer

  model = student(width, num_layers, num_heads)
  workers = best_torch(Trainer, (TASK, model, rows), (not packed, 0), (SECONDS_TO_CHOOSE,))
  ours = training_rate(model, Training(rows_per_step=max(rows // 4, 1) if packed else rows, packed=packed))
  peer = functools.partial(workers.rate, SECONDS)
  unit, factor = ("walks/s", 1 / mean_walk_length(TASK)) if packed else ("trained positions/s", 1.0)
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


def mean_walk_length(task: StarGraph, num_walks: int = 20_000) -> float:
  """Trained positions of a walk, by sampling."""
  _, targets = numpy_sampler.sample_batch(task, np.random.default_rng(0), num_walks)
  return float((targets != numpy_sampler.IGNORED).sum() / num_walks)


def rollout_rate(model: Transformer, num_walks: int) -> Rate:
  """Walk positions per second of rollouts to the cut, one on each of `num_walks` graphs, over all devices."""
  mesh = seeds.device_mesh()
  devices = mesh.shape[seeds.SEED]
  params = runner.initial_states([TASK], model, Training(), [0] * devices, mesh).params
  keys = seeds.place(jax.random.split(jax.random.key(0), devices), mesh)

  def roll_out(row: tuple[Any, jax.Array]) -> jax.Array:
    params, key = row
    problem_key, walk_key = jax.random.split(key)
    problems = decoding.sample_problems(TASK, problem_key, num_walks // devices, 1)
    rollout = decoding.begin(TASK, model, params, problems, walk_key)
    temperature = jnp.ones((1, 1))
    return decoding.advance(
      TASK, model, params, problems, temperature, rollout, num_steps=TASK.max_steps - 1
    ).nodes  # fmt: skip

  run = seeds.map_seeds(roll_out, mesh)

  def rate() -> float:
    began = time.perf_counter()
    jax.block_until_ready(run((params, keys)))
    return num_walks * (TASK.max_steps - 1) / (time.perf_counter() - began)

  rate()
  return rate


def _rollout_pair(width: int, num_layers: int, num_heads: int, num_walks: int) -> Measurement:
  from experiments.peers.torch_student import Generator

  model = student(width, num_layers, num_heads)
  workers = best_torch(Generator, (TASK, model, num_walks), (0,), ())
  ours = rollout_rate(model, num_walks)
  return Measurement("walk positions/s", ours, workers.rate, str(workers.variant), workers.close)


def rollouts() -> Iterator[Case]:
  """Rollouts of 128 steps with a KV cache, none stopped early on either side."""
  for width, num_layers, num_heads, _ in SHAPES[:2]:
    for num_walks in (64, 1024):
      make = functools.partial(_rollout_pair, width, num_layers, num_heads, num_walks)
      yield Case(f"rollouts, width {width}, {num_walks} walks", make)


def sampler_rate(batch: int = 1024, packed: bool = False) -> Rate:
  """Encoded graphs per second, each with one walk or a packed stream of them, over all devices."""
  mesh = seeds.device_mesh()
  devices = mesh.shape[seeds.SEED]
  probabilities, length = teacher.teacher_probabilities(TASK), teacher.stream_length(TASK)

  def sample_batch(key: jax.Array) -> encoding.Row:
    sample = functools.partial(encoding.sample_row, TASK, probabilities, num_streams=1, length=length, packed=packed)
    return jax.vmap(sample)(jax.random.split(key, batch))

  run = seeds.map_seeds(sample_batch, mesh)
  keys = seeds.place(jax.random.split(jax.random.key(0), devices), mesh)
  jax.block_until_ready(run(keys))
  calls = max(4, 65_536 // batch)

  def rate() -> float:
    began = time.perf_counter()
    for _ in range(calls):
      rows = run(keys)
    jax.block_until_ready(rows)
    return calls * devices * batch / (time.perf_counter() - began)

  return rate


def _against_plain_python() -> Measurement:
  rng = random.Random(0)
  peer = functools.partial(per_second, lambda: numpy_sampler.sample_plainly(TASK, rng), 1)
  return Measurement("graphs/s", sampler_rate(), peer, "plain Python, one process")


def _against_numpy() -> Measurement:
  rng = np.random.default_rng(0)
  peer = functools.partial(per_second, lambda: numpy_sampler.sample_batch(TASK, rng, 1024), 1024)
  return Measurement("graphs/s", sampler_rate(), peer, "NumPy, one process")


def _share_of_a_step(width: int, num_layers: int, num_heads: int, rows: int) -> Measurement:
  """Train steps, sampling included, over batches sampled alone in the same time: the sampler's share of a step."""
  model, config = student(width, num_layers, num_heads), Training(rows_per_step=max(rows // 4, 1))
  batches = scaled(sampler_rate(config.rows_per_step, packed=True), 1 / config.rows_per_step)
  steps = scaled(training_rate(model, config), 1 / (config.rows_per_step * config.length(TASK) * trained_share(config)))
  return Measurement("batches/s", steps, batches, "our sampler alone")


def sampler() -> Iterator[Case]:
  """Graphs with walks per second; the sampler's share of a train step."""
  yield Case("sampler, against plain Python", _against_plain_python)
  yield Case("sampler, against NumPy", _against_numpy)
  yield from _of_shapes("sampler's share of a train step", _share_of_a_step)


def per_second(function: Callable[[], Any], count: int, seconds: float = 1.0) -> float:
  """How many per second `function` makes, `count` at a call."""
  began, calls = time.perf_counter(), 0
  while time.perf_counter() - began < seconds:
    function()
    calls += 1
  return calls * count / (time.perf_counter() - began)


def floating_point_operations(model: Transformer, task: StarGraph, prompt: int, stream: int) -> float:
  """Of the products of a train step on one row: forward once, backward twice; attention over the full squares."""
  maps = (4 + 2 * model.mlp_ratio) * model.width**2
  attention = 2 * model.width * (prompt * prompt + stream * (prompt + stream))
  return 6 * (model.num_layers * (maps * (prompt + stream) + attention) + stream * model.width * task.vocabulary_size)


def product_rate(width: int, mlp_ratio: int, dtype: str, rows: int = 2048) -> Rate:
  """Floating-point operations per second of the MLP's two products at this width and type, all devices at once."""
  mesh = seeds.device_mesh()
  devices = mesh.shape[seeds.SEED]
  x, up = jnp.ones((devices, rows, width), dtype), jnp.ones((devices, width, mlp_ratio * width), dtype)
  state, repeats = seeds.place((x, up, jnp.swapaxes(up, 1, 2) / (mlp_ratio * width**2)), mesh), 200

  def run(state: Any) -> jax.Array:
    def both(_: jax.Array, x: jax.Array) -> jax.Array:
      hidden = jnp.dot(x, state[1], preferred_element_type=jnp.float32).astype(dtype)
      return jnp.dot(hidden, state[2], preferred_element_type=jnp.float32).astype(dtype)

    return jax.lax.fori_loop(0, repeats, both, state[0])

  mapped = seeds.map_seeds(run, mesh)
  jax.block_until_ready(mapped(state))
  work = devices * repeats * 2 * 2 * rows * width * mlp_ratio * width

  def rate() -> float:
    began = time.perf_counter()
    jax.block_until_ready(mapped(state))
    return work / (time.perf_counter() - began)

  return rate


def trained_share(config: Training) -> float:
  """Of the positions of the streams those that are trained on: goals are read only, and so is padding."""
  objective = training.teacher_forcing(TASK, student(8, 1, 1), config)
  probabilities = teacher.teacher_probabilities(TASK)
  rows = jax.vmap(lambda key: objective.sample(key, probabilities))(jax.random.split(jax.random.key(0), 1024))
  return float(jnp.mean(rows.weights))


def _against_products(width: int, num_layers: int, num_heads: int, rows: int) -> Measurement:
  model, config = student(width, num_layers, num_heads), Training(rows_per_step=max(rows // 4, 1))
  stream = config.length(TASK)
  per_row = floating_point_operations(model, TASK, encoding.prompt_length(TASK), stream)
  ours = scaled(training_rate(model, config), per_row / (stream * trained_share(config)) / 1e9)
  products = scaled(product_rate(width, model.mlp_ratio, model.matmul_dtype), 1e-9)
  return Measurement("GFLOP/s", ours, products, f"bare products, {model.matmul_dtype}")


def roofline() -> Iterator[Case]:
  """The train step's floating-point operations per second against those of bare products: the ratio is the share."""
  return _of_shapes("roofline", _against_products)


SUITES = (train_same_shapes, train_at_best, rollouts, sampler, roofline)


def table(records: list[Record]) -> str:
  """The records, a line each."""
  return pd.DataFrame(map(dataclasses.asdict, records)).to_string(index=False, float_format="{:,.4g}".format)


def main() -> None:
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
  seeds.use_all_cores()
  _OUTPUT = flags.DEFINE_string("output", None, "File for the records, as JSON.")
  _ONLY = flags.DEFINE_string("only", "", "Regular expression: the measurements to run, by name.")
  _REPETITIONS = flags.DEFINE_integer("repetitions", 5, "Turns of each pair.", lower_bound=1)
  configs.run_main(main)
