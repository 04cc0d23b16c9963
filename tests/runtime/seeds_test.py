"""Many seeds over devices and processes: each seed as if alone, each device its own seeds and nothing else."""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import task_state, teacher_forcing
from loopjax.star_graph.streams import stream_length
from loopjax.training.step import Objective, Training, TrainState, make_optimizer, run_chunk
from tests.compiling import ROUND_ALIKE
from tests.models.students import equations, random_params, sample_packed

TASK = StarGraph(num_chains=2, chain_length=1, spare_labels=2, max_steps=6, explore_prob=0.5)
MODEL = Transformer(num_layers=3, num_heads=2, width=16)
TRAINING = Training(num_steps=10, rows_per_step=4, learning_rate=0.01, warmup_steps=0)
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast")


def setUpModule():
  objective()  # made here, not inside of a program


def mesh_of(num_devices: int):
  return jax.make_mesh(
    (num_devices, 1), (devices.SEED, devices.DATA), (AxisType.Auto, AxisType.Auto), devices=jax.devices()[:num_devices]
  )


@functools.cache
def objective() -> Objective:
  """Teacher forcing on rows drawn from a fixed store: the sampler takes longer to compile than the student."""
  store = jax.tree.map(np.asarray, sample_packed(TASK, 32, 1, stream_length(TASK)))
  draw = lambda key, state, extra: jax.tree.map(
    lambda leaf: jnp.asarray(leaf)[jax.random.randint(key, (), 0, 32)], store
  )
  return teacher_forcing(TASK, MODEL, TRAINING)._replace(sample=draw)


def chunk(state: TrainState, num_steps: jax.Array):
  """What is mapped: some steps of one student."""
  return run_chunk(objective(), TRAINING, state, num_steps)


def small_chunk(state: TrainState, num_steps: jax.Array, data_axis: str | None = None):
  """As `chunk`, of a student that compiles in a second: one matrix, from noise to noise."""

  def loss(params, batch, key, extra):
    return jnp.sum((jnp.tanh(batch[:, 0] @ params["w"]) - batch[:, 1]) ** 2), jnp.float32(len(batch)), extra

  objective = Objective(lambda key, state, extra: jax.random.normal(key, (2, 8)), loss)
  return run_chunk(objective, TRAINING, state, num_steps, data_axis=data_axis)


def students(count: int, *, small: bool = False) -> TrainState:
  """Different students [S, ...], on no mesh yet."""
  base = {"w": np.ones((8, 8), np.float32)} if small else random_params(MODEL, TASK)
  rng = np.random.default_rng(0)
  vary = lambda leaf: np.asarray(leaf)[None] * rng.uniform(0.5, 1, (count,) + (1,) * leaf.ndim).astype(np.float32)
  params = jax.tree.map(vary, base)
  opt_state = jax.tree.map(np.asarray, jax.vmap(make_optimizer(TRAINING).init)(params))
  keys = jax.random.split(jax.random.key(1), count)
  state = jax.tree.map(lambda leaf: np.stack([leaf] * count), task_state(TASK, TRAINING))
  return TrainState(np.zeros(count, np.int32), params, opt_state, keys, state, ())


def largest_difference(function, mapped, states: TrainState, count: int, options=None) -> float:
  """Between rows of `mapped` (parameters, metrics) and each seed by itself, no mesh; relative where above 1."""
  run, largest = jax.jit(function, compiler_options=options), 0.0
  for i in range(count):
    state, metrics = run(jax.tree.map(lambda leaf, i=i: leaf[i], states), jnp.int32(3))
    alone = (state.params, metrics)
    for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
      largest = max(largest, float(np.max(np.abs(a[i] - b) / np.maximum(1, np.abs(b)))))
  return largest


class OneSeedTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("four_devices", 4, 1, "cpu"),
    ("one_device", 1, 1, "cpu"),
    ("cpu_default", 4, None, "cpu"),
    ("two_at_once", 4, 2, "cpu"),
    ("four_at_once_and_the_rest", 1, 4, "cpu"),
    ("accelerator_default_all_at_once", 4, None, "gpu"),
  )
  def test_row_i_of_the_mapped_run_is_seed_i_alone(self, num_devices, seeds_per_batch, backend):
    mesh, states = mesh_of(num_devices), students(6, small=True)
    with mock.patch.object(jax, "default_backend", lambda: backend):
      state, metrics = seeds.map_seeds(small_chunk, mesh, seeds_per_batch=seeds_per_batch)(
        seeds.place(states, mesh), jnp.int32(3)
      )
    found = seeds.to_host((state.params, metrics), 6)
    difference = largest_difference(small_chunk, found, states, 6)
    print(f"{num_devices} devices, seeds_per_batch={seeds_per_batch} ({backend}): largest difference {difference:.1e}")
    self.assertLess(difference, 1e-6)
    changes = np.abs(found[0]["w"] - states.params["w"]).max((1, 2))
    self.assertGreater(changes.min(), 0.01)  # all were trained

  @parameterized.parameters((None, "cpu", 3), (None, "gpu", None), (1, "gpu", 3), (2, "cpu", 1))
  def test_how_many_seeds_run_at_once(self, seeds_per_batch, backend, expected_rounds):
    """Read from the program: the rounds of its loop over 3 seeds, or no loop at all."""
    with mock.patch.object(jax, "default_backend", lambda: backend):
      run = seeds.map_seeds(lambda x: jnp.sin(x) @ x, mesh_of(1), seeds_per_batch=seeds_per_batch)
      jaxpr = run.trace(jnp.ones((3, 4))).jaxpr.jaxpr
    rounds = [e.params["length"] for e in equations(jaxpr) if e.primitive.name == "scan"]
    self.assertEqual(rounds, [] if expected_rounds is None else [expected_rounds])


def trip_counts(text: str) -> set[int]:
  """Of the loops whose number of rounds is known at compile time."""
  return {int(count) for count in re.findall(r'known_trip_count":\{"n":"(\d+)"', text)}


def arguments(text: str) -> list[str]:
  """The types of the program's arguments, on one device."""
  return re.findall(r"(\w+\[[\d,]*\])", re.search(r"entry_computation_layout=\{\((.*?)\)->", text)[1])


class CompiledProgramTest(absltest.TestCase):
  """What a device does is read from the program compiled for it."""

  def test_a_device_runs_its_own_seeds_and_talks_to_no_other(self):
    mesh, states = devices.device_mesh(), students(19)
    placed = seeds.place(states, mesh)
    with mock.patch.dict(devices.CPU_COMPILER_OPTIONS, ROUND_ALIKE):
      compiled = seeds.map_seeds(chunk, mesh).lower(placed, jnp.int32(3)).compile()
    text = compiled.as_text()
    self.assertIn("num_partitions=4", text)
    for name in COLLECTIVES:
      self.assertNotIn(name, text)
    types = arguments(text)
    self.assertGreater(len(types), 30)
    for kind in types[:-1]:  # the last is the number of steps
      self.assertRegex(kind, r"\[5(,\d+)*\]")
    self.assertEqual(types[-1], "s32[]")
    counts = trip_counts(text)
    print(f"trip counts {sorted(counts)}")
    self.assertIn(5, counts)  # 19 seeds, padded to 20, on 4 devices
    self.assertNotIn(20, counts)

    state, metrics = compiled(placed, jnp.int32(3))
    found = seeds.to_host((state.params, metrics), 19)
    difference = largest_difference(chunk, found, states, 19, ROUND_ALIKE)
    print(f"transformers on 4 devices: largest difference {difference:.1e}")
    self.assertLess(difference, 1e-6)

  def test_the_signs_looked_for_show_where_shard_map_is_left_out(self):
    mesh = devices.device_mesh()
    xs = jax.ShapeDtypeStruct((20, 8), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(devices.SEED)))
    text = jax.jit(lambda xs: jax.lax.map(lambda x: jnp.sin(x) @ x, xs)).lower(xs).compile().as_text()
    self.assertIn(20, trip_counts(text))
    self.assertTrue(any(name in text for name in COLLECTIVES))

  def test_donated_memory_is_used_again(self):
    mesh = devices.device_mesh()
    for donate in (False, True):
      x = seeds.place(jnp.ones((4, 1000)), mesh)
      seeds.map_seeds(lambda x: x + 1, mesh, donate=donate)(x)
      self.assertEqual(x.is_deleted(), donate)


class GradientTest(absltest.TestCase):
  def test_gradients_of_parameters_made_inside_are_not_summed_over_devices(self):
    xs = jnp.array([1.0, 10.0, 100.0, 1000.0])
    gradient = lambda x: jax.grad(lambda w: w * x)(jnp.float32(1))
    mesh = devices.device_mesh()
    found = seeds.to_host(seeds.map_seeds(gradient, mesh)(seeds.place(xs, mesh)), 4)
    np.testing.assert_array_equal(found, xs)
    # This is what shard_map does by default, and what the line above would show.
    summed = jax.jit(jax.shard_map(
      jax.vmap(gradient), mesh=mesh, in_specs=PartitionSpec(devices.SEED), out_specs=PartitionSpec(devices.SEED)
    ))(xs)  # fmt: skip
    np.testing.assert_array_equal(summed, np.full(4, 1111.0))

  def test_gradients_of_shared_parameters_are_not_summed_either(self):
    mesh = devices.device_mesh()
    xs = seeds.place(jnp.arange(8.0), mesh)
    found = seeds.map_seeds(lambda x, w: jax.grad(lambda w: w * x)(w), mesh)(xs, jnp.float32(3))
    np.testing.assert_array_equal(seeds.to_host(found, 8), np.arange(8.0))


class PlacementTest(parameterized.TestCase):
  @parameterized.parameters((1, 4), (4, 4), (5, 8), (8, 8))
  def test_padding_repeats_the_last_seed_and_is_cut_off_again(self, num_seeds, padded):
    mesh = devices.device_mesh()
    tree = {
      "a": jnp.arange(3.0 * num_seeds).reshape(num_seeds, 3),
      "key": jax.random.split(jax.random.key(0), num_seeds),
    }
    placed = seeds.place(tree, mesh)
    for leaf in jax.tree.leaves(placed):
      self.assertEqual(leaf.shape[0], padded)
      self.assertLen(leaf.sharding.device_set, 4)
      self.assertEqual({shard.data.shape[0] for shard in leaf.addressable_shards}, {padded // 4})
    np.testing.assert_array_equal(placed["a"][num_seeds:], np.tile(tree["a"][-1:], (padded - num_seeds, 1)))
    np.testing.assert_array_equal(jax.random.key_data(placed["key"][:num_seeds]), jax.random.key_data(tree["key"]))
    found = seeds.to_host(placed["a"], num_seeds)
    self.assertIsInstance(found, np.ndarray)
    np.testing.assert_array_equal(found, tree["a"])

  def test_rows_of_several_trees_are_joined_in_the_order_asked_for(self):
    mesh, keys = devices.device_mesh(), jax.random.split(jax.random.key(0), 6)
    tree = {"x": np.arange(12.0).reshape(6, 2), "key": keys}
    joined = seeds.join_rows([(seeds.place(tree, mesh), slice(4, 6)), (tree, (3, 0, 0))], mesh)
    for leaf in jax.tree.leaves(joined):
      self.assertEqual((leaf.shape[0], len(leaf.sharding.device_set)), (8, 4))
    order = [4, 5, 3, 0, 0]
    np.testing.assert_array_equal(joined["x"][:5], tree["x"][order])
    np.testing.assert_array_equal(jax.random.key_data(joined["key"])[:5], jax.random.key_data(keys)[np.array(order)])

  @parameterized.parameters((1, (4, 1)), (2, (2, 2)), (4, (1, 4)))
  def test_the_mesh_has_all_devices(self, num_data, shape):
    mesh = devices.device_mesh(num_data)
    self.assertEqual((mesh.devices.shape, mesh.axis_names), (shape, ("seed", "data")))
    self.assertEqual(set(mesh.devices.flat), set(jax.devices()))

  @parameterized.parameters(3, 8, 0, -1)
  def test_the_data_axis_must_divide_the_devices(self, num_data):
    with self.assertRaisesRegex(ValueError, rf"^num_data={num_data} .* a divisor of 4 devices$"):
      devices.device_mesh(num_data)

  def test_the_data_axis_splits_a_batch_and_agrees_on_the_result(self):
    mesh = devices.device_mesh(2)
    states = students(2, small=True)
    chunk = functools.partial(small_chunk, data_axis=devices.DATA)
    compiled = seeds.map_seeds(chunk, mesh).lower(seeds.place(states, mesh), jnp.int32(3)).compile()
    self.assertIn("all-reduce", compiled.as_text())
    state, metrics = compiled(seeds.place(states, mesh), jnp.int32(3))
    self.assertLess(largest_difference(small_chunk, seeds.to_host((state.params, metrics), 2), states, 2), 1e-5)


def clean_environment(**settings: str) -> dict[str, str]:
  """This process's environment without what decides on devices and processes."""
  gone = ("JAX_", "XLA_FLAGS", "SLURM_", "OMPI_")
  kept = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
  paths = [str(Path(__file__).parents[2]), kept.get("PYTHONPATH", "")]
  kept["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
  return {**kept, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **settings}


def start(script: str, **settings: str) -> subprocess.Popen[str]:
  return subprocess.Popen(
    [sys.executable, "-c", script], env=clean_environment(**settings),
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip


_COUNT_DEVICES = """
import os
cores = sorted(os.sched_getaffinity(0))[: int(os.environ.get("CORES", 1000))]
os.sched_setaffinity(0, cores)
import jax
from loopjax.runtime import devices
devices.use_all_cores()
print(len(cores), jax.device_count())
"""

_TWO_PROCESSES = """
import jax
jax.config.update("jax_num_cpu_devices", 2)
from loopjax.runtime import devices, seeds
devices.initialize_distributed()
import jax.numpy as jnp
mesh = devices.device_mesh()
rows = {"key": jax.random.split(jax.random.key(0), 6), "x": jnp.arange(6.0)}
draw = lambda row, scale: row["x"] * scale + jax.random.uniform(row["key"])
placed = seeds.place(rows, mesh)
joined = seeds.join_rows([(placed, [5, 0]), (rows, slice(1, 5))], mesh)  # rows of both processes, and of each alone
for order in (placed, joined):
  found = seeds.to_host(seeds.map_seeds(draw, mesh)(order, jnp.float32(2)), 6)
  print("RESULT", jax.process_index(), jax.process_count(), mesh.shape["seed"], *found.tolist())
"""


class EnvironmentTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"SLURM_NTASKS": "two"}, "SLURM_NTASKS='two' is not allowed: must be a whole number"),
    ({"SLURM_NTASKS": "2"}, "SLURM_JOB_ID='' .* a whole number: SLURM_NTASKS=2; start all processes with srun"),
    ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}, "SLURM_PROCID=''"),
    ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "x"}, "SLURM_PROCID='x'"),
    ({"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, "SLURM_STEP_NODELIST=''"),
    ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD_LOCAL_RANK=''"),
    ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_NUM_PROCESSES='' .* a whole number: .* belong together"),
    ({"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS='' .* host:port: .* belong together"),
    ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2 .* below"),
  )
  def test_variables_that_are_half_set_are_one_line(self, settings, message):
    with (
      mock.patch.dict(os.environ, clean_environment(**settings), clear=True),
      mock.patch.object(jax.distributed, "initialize") as joined,
      self.assertRaisesRegex(ValueError, f"^{message}") as raised,
    ):
      devices.initialize_distributed()
    self.assertNotIn("\n", str(raised.exception))
    joined.assert_not_called()

  @parameterized.parameters(
    ({}, 0),
    ({"SLURM_NTASKS": "1"}, 0),
    (
      {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n"},
      1,
    ),
    ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, 1),
  )
  def test_processes_join_where_several_are_named(self, settings, times):
    with (
      mock.patch.dict(os.environ, clean_environment(**settings), clear=True),
      mock.patch.object(jax.distributed, "initialize") as joined,
    ):
      devices.initialize_distributed()
    self.assertEqual(joined.call_count, times)


class ProcessesTest(absltest.TestCase):
  def outputs(self, *children):
    """What each child said; all are ended whatever happens."""
    try:
      said = [child.communicate(timeout=120) for child in children]
    finally:
      for child in children:
        child.kill()
    for child, (_, errors) in zip(children, said, strict=True):
      self.assertEqual(child.returncode, 0, errors[-3000:])
    return [output for output, _ in said]

  def test_one_device_per_core_unless_the_user_chose(self):
    # Two at a time: each takes a core for a second.
    found = self.outputs(start(_COUNT_DEVICES), start(_COUNT_DEVICES, CORES="1"))
    cores = len(os.sched_getaffinity(0))
    self.assertEqual([output.split() for output in found], [[str(cores)] * 2, ["1", "1"]])
    chosen = self.outputs(
      start(_COUNT_DEVICES, JAX_NUM_CPU_DEVICES="3"),
      start(_COUNT_DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=5"),
    )
    self.assertEqual([output.split()[1] for output in chosen], ["3", "5"])

  def test_two_processes_share_the_seeds_and_both_get_all_results(self):
    with socket.socket() as free:
      free.bind(("localhost", 0))
      address = f"localhost:{free.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    found = self.outputs(*(start(_TWO_PROCESSES, JAX_PROCESS_ID=str(i), **common) for i in range(2)))
    keys = jax.random.split(jax.random.key(0), 6)
    expected = 2 * np.arange(6.0) + np.array([jax.random.uniform(key) for key in keys])
    for process, output in enumerate(found):
      results = [line.split()[1:] for line in output.splitlines() if line.startswith("RESULT")]
      for result, order in zip(results, (np.arange(6), [5, 0, 1, 2, 3, 4]), strict=True):
        self.assertEqual(result[:3], [str(process), "2", "4"])
        np.testing.assert_allclose(np.array(result[3:], float), expected[order], rtol=1e-6)


if __name__ == "__main__":
  absltest.main()
