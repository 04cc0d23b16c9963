"""How fast parts of loopjax are: functions that each measure a rate when called, after they have compiled."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.peers import numpy_sampler
from loopjax.generation.settings import Generation, at_temperatures
from loopjax.models.products import cpu_multiplies_bfloat16
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import encoding, rollouts, student_functions, students, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import sample_row, task_state, teacher_forcing
from loopjax.star_graph.rollouts import Asked, sample_problems
from loopjax.star_graph.streams import stream_length
from loopjax.star_graph.teacher import TeacherProbabilities
from loopjax.training.step import Training, run_chunk

TASK = StarGraph(num_chains=5, chain_length=5, max_steps=128)
SECONDS = 4.0  # of one measurement

Rate = Callable[[], float]


def student(width: int, num_layers: int, num_heads: int) -> Transformer:
  """Our student of this shape, with the operands that this machine multiplies fastest."""
  narrow = jax.default_backend() != "cpu" or cpu_multiplies_bfloat16()
  dtype = "bfloat16" if narrow else "float32"
  return Transformer(num_layers=num_layers, num_heads=num_heads, width=width, matmul_dtype=dtype)


def training_rate(model: Transformer, config: Training) -> Rate:
  """Positions trained per second, summed over seeds, one seed per device."""
  mesh = devices.device_mesh()
  num_seeds = mesh.shape[devices.SEED]
  objective = teacher_forcing(TASK, model, config)
  run = seeds.map_seeds(lambda state, steps: run_chunk(objective, config, state, steps), mesh, donate=True)
  state = students.initial_states([TASK], model, config, range(num_seeds), mesh)
  steps = 1

  def rate() -> float:
    nonlocal state, steps
    began = time.perf_counter()
    state, metrics = run(state, jnp.int32(steps))
    positions = steps * float(np.sum(seeds.to_host(metrics.trained_positions, num_seeds)))
    seconds = time.perf_counter() - began
    steps = max(4, round(steps * SECONDS / seconds))  # a call takes fresh memory, which tens of steps share in a run
    return positions / seconds

  rate(), rate()  # compiles, then finds how many steps fit
  return rate


def scaled(rate: Rate, factor: float) -> Rate:
  """The same rate in another unit."""
  return lambda: factor * rate()


def mean_walk_length(task: StarGraph, num_walks: int = 20_000) -> float:
  """Trained positions of a walk, by sampling."""
  _, targets = numpy_sampler.sample_batch(task, np.random.default_rng(0), num_walks)
  return float((targets != numpy_sampler.IGNORED).sum() / num_walks)


def rollout_rate(model: Transformer, num_walks: int, generation: Generation | None = None) -> Rate:
  """Walk positions per second of rollouts to the cut, one on each of `num_walks` graphs, over all devices.

  Args:
    model: the student's architecture.
    num_walks: walks, a multiple of the number of devices.
    generation: one column; temperature 1 alone if None.
  """
  generation = generation or at_temperatures([1.0])
  mesh = devices.device_mesh()
  num_devices = mesh.shape[devices.SEED]
  state = students.initial_states([TASK], model, Training(), [0] * num_devices, mesh)
  keys = seeds.place(jax.random.split(jax.random.key(0), num_devices), mesh)
  of_student = student_functions.functions_of(model, TASK)

  def roll_out(row: tuple[Any, TeacherProbabilities, jax.Array]) -> jax.Array:
    params, probabilities, key = row
    problem_key, walk_key = jax.random.split(key)
    problems = sample_problems(TASK, problem_key, num_walks // num_devices, 1)
    asked = Asked(TASK, of_student, params, probabilities, problems, generation.processors, generation.traced())
    return rollouts.advance(asked, rollouts.begin(asked, walk_key), num_steps=TASK.max_steps - 1).tokens

  run = seeds.map_seeds(roll_out, mesh)

  def rate() -> float:
    began = time.perf_counter()
    jax.block_until_ready(run((state.params, state.task.probabilities, keys)))
    return num_walks * (TASK.max_steps - 1) / (time.perf_counter() - began)

  rate()
  return rate


def sampler_rate(batch: int = 1024, packed: bool = False) -> Rate:
  """Encoded graphs per second, each with one walk or a packed stream of them, over all devices."""
  mesh = devices.device_mesh()
  num_devices = mesh.shape[devices.SEED]
  probabilities, length = teacher.teacher_probabilities(TASK), stream_length(TASK)

  def sample_batch(key: jax.Array) -> encoding.Row:
    sample = functools.partial(encoding.sample_row, TASK, probabilities, num_streams=1, length=length, packed=packed)
    return jax.vmap(sample)(jax.random.split(key, batch))

  run = seeds.map_seeds(sample_batch, mesh)
  keys = seeds.place(jax.random.split(jax.random.key(0), num_devices), mesh)
  jax.block_until_ready(run(keys))
  calls = max(4, 65_536 // batch)

  def rate() -> float:
    began = time.perf_counter()
    for _ in range(calls):
      rows = run(keys)
    jax.block_until_ready(rows)
    return calls * num_devices * batch / (time.perf_counter() - began)

  return rate


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
  mesh = devices.device_mesh()
  num_devices = mesh.shape[devices.SEED]
  x, up = jnp.ones((num_devices, rows, width), dtype), jnp.ones((num_devices, width, mlp_ratio * width), dtype)
  state, repeats = seeds.place((x, up, jnp.swapaxes(up, 1, 2) / (mlp_ratio * width**2)), mesh), 200

  def run(state: Any) -> jax.Array:
    def both(_: jax.Array, x: jax.Array) -> jax.Array:
      hidden = jnp.dot(x, state[1], preferred_element_type=jnp.float32).astype(dtype)
      return jnp.dot(hidden, state[2], preferred_element_type=jnp.float32).astype(dtype)

    return jax.lax.fori_loop(0, repeats, both, state[0])

  mapped = seeds.map_seeds(run, mesh)
  jax.block_until_ready(mapped(state))
  work = num_devices * repeats * 2 * 2 * rows * width * mlp_ratio * width

  def rate() -> float:
    began = time.perf_counter()
    jax.block_until_ready(mapped(state))
    return work / (time.perf_counter() - began)

  return rate


def trained_share(config: Training) -> float:
  """Of the positions of the streams those that are trained on: goals are read only, and so is padding."""
  state = task_state(TASK, config)
  sample = jax.vmap(lambda key: sample_row(TASK, config, key, state))
  return float(jnp.mean(sample(jax.random.split(jax.random.key(0), 1024)).weights > 0))
