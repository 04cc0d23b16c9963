import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from loopjax.runtime import devices, seeds
from loopjax.training import checkpoints


class TrainState(NamedTuple):
  """Much as training.TrainState; checkpoints know nothing of it."""

  step: Any
  params: Any
  opt_state: Any
  key: Any
  extra: Any


def over_seeds(num_devices):
  mesh = jax.make_mesh((num_devices,), ("seed",), axis_types=(AxisType.Auto,), devices=jax.devices()[:num_devices])
  return NamedSharding(mesh, PartitionSpec("seed"))


def make_state(sharding, num_seeds=8, width=3):
  """A state whose every leaf differs, with the bit patterns that a cast would lose."""
  rng = np.random.default_rng(0)
  weights = rng.normal(size=(num_seeds, width, 5)).astype(np.float32)
  weights[0, 0, :4] = [np.nan, -np.inf, -0.0, 1e-42]
  params = {
    "embed": {"w": jnp.asarray(weights)},
    "blocks": {"w": jnp.asarray(rng.normal(size=(num_seeds, 2, width)), jnp.bfloat16)},
  }
  state = TrainState(
    step=jnp.arange(num_seeds, dtype=jnp.int32),
    params=params,
    opt_state=jax.vmap(optax.adamw(1e-3).init)(params),
    key=jax.random.split(jax.random.key(7), num_seeds),
    extra={"baseline": jnp.arange(num_seeds, dtype=jnp.float16), "done": jnp.arange(num_seeds) % 2 == 0, "none": ()},
  )
  return jax.device_put(state, sharding)


def bits(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()


class CheckpointsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"

  def steps(self):
    return sorted(path.name for path in self.folder.iterdir())

  def assert_same_state(self, found, expected):
    self.assertEqual(jax.tree.structure(found), jax.tree.structure(expected))
    self.assertEqual(jax.tree.map(bits, found), jax.tree.map(bits, expected))

  @parameterized.product(saved_on=(1, 4), loaded_on=(1, 2, 4))
  def test_round_trip_is_bit_identical_and_lands_on_the_shardings_asked_for(self, saved_on, loaded_on):
    state = make_state(over_seeds(saved_on))
    checkpoints.save(self.folder, 300, state)
    expected = checkpoints.abstract(make_state(over_seeds(loaded_on)))
    found, step = checkpoints.load(self.folder, expected)
    self.assertEqual(step, 300)
    self.assert_same_state(found, state)
    self.assertIsInstance(found, TrainState)
    self.assertIsInstance(found.opt_state[0], optax.ScaleByAdamState)
    for leaf in jax.tree.leaves(found):
      self.assertEqual(leaf.sharding.device_set, set(jax.devices()[:loaded_on]))
      self.assertEqual(leaf.sharding, over_seeds(loaded_on))

  def test_rows_come_back_without_their_padding(self):
    state = make_state(over_seeds(4))
    row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), state)
    mesh = devices.device_mesh()
    self.assertIsNone(checkpoints.load_rows(self.folder, row, 5, mesh))
    checkpoints.save(self.folder, 300, state)
    found, step = checkpoints.load_rows(self.folder, row, 5, mesh)
    self.assertEqual(step, 300)
    self.assert_same_state(found, seeds.place(jax.tree.map(lambda leaf: leaf[:5], state), mesh))
    with self.assertRaisesRegex(ValueError, rf"^checkpoint {self.folder}: rows=8 is not allowed: must be 9 at least$"):
      checkpoints.load_rows(self.folder, row, 9, mesh)

  def test_the_restored_state_goes_on_as_the_saved_one_would(self):
    def train_step(state):
      draw = jax.vmap(jax.random.normal)(state.key)[:, None, None]
      grads = jax.tree.map(lambda p: (p * draw).astype(p.dtype), state.params)
      updates, opt_state = jax.vmap(optax.adamw(1e-3).update)(grads, state.opt_state, state.params)
      key = jax.vmap(lambda k: jax.random.fold_in(k, 1))(state.key)
      return state._replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state, key=key)

    state = make_state(over_seeds(4))
    train_step = jax.jit(train_step)
    checkpoints.save(self.folder, 1, state)
    found, _ = checkpoints.load(self.folder, state)
    self.assert_same_state(train_step(found), train_step(state))

  def test_leaves_without_sharding(self):
    state = {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": jnp.ones(2, jnp.bfloat16)}
    checkpoints.save(self.folder, 0, state)
    found, step = checkpoints.load(self.folder, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state)))
    self.assertEqual(step, 0)
    self.assertEqual(jax.tree.map(bits, found), jax.tree.map(bits, state))

  def test_nothing_saved(self):
    state = make_state(over_seeds(4))
    self.assertIsNone(checkpoints.load(self.folder, state))
    self.assertIsNone(checkpoints.latest_step(self.folder))
    self.assertFalse(self.folder.exists())
    self.folder.mkdir()
    self.assertIsNone(checkpoints.load(self.folder, state))
    (self.folder / "config.json").write_text("{}")
    (self.folder / "5.orbax-checkpoint-tmp").mkdir()
    self.assertIsNone(checkpoints.load(self.folder, state))
    self.assertIsNone(checkpoints.latest_step(self.folder))

  def test_the_latest_is_loaded_and_only_a_few_are_kept(self):
    state = {"a": np.zeros(2, np.int32)}
    for step in (9, 10, 100):  # not in the order of their names
      checkpoints.save(self.folder, step, {"a": np.full(2, step, np.int32)}, keep=2)
    self.assertEqual(self.steps(), ["10", "100"])
    found, step = checkpoints.load(self.folder, state)
    self.assertEqual((step, list(found["a"])), (100, [100, 100]))
    self.assertEqual(checkpoints.latest_step(self.folder), 100)
    checkpoints.save(self.folder, 101, state, keep=1)
    self.assertEqual(self.steps(), ["101"])

  @parameterized.parameters(5, 4)
  def test_saved_steps_are_never_replaced(self, step):
    checkpoints.save(self.folder, 5, {"a": np.zeros(2, np.float32)})
    with self.assertRaisesRegex(ValueError, rf"run holds step 5, so step {step} cannot be saved"):
      checkpoints.save(self.folder, step, {"a": np.ones(2, np.float32)})
    self.assertEqual(checkpoints.load(self.folder, {"a": np.ones(2, np.float32)})[0]["a"].sum(), 0)

  def test_keep_is_checked(self):
    with self.assertRaisesRegex(ValueError, "keep=0"):
      checkpoints.save(self.folder, 1, {"a": np.zeros(2, np.float32)}, keep=0)

  @parameterized.named_parameters(
    ("number", {"a": {"b": 3}}, r"^state\.a\.b=3 is not allowed: must be an array$"),
    ("wide", {"a": [np.zeros(2)]}, r"^state\.a\.0\.dtype='float64' is not allowed: must be float32"),
  )
  def test_what_could_not_come_back_is_refused(self, state, message):
    with self.assertRaisesRegex(ValueError, message):
      checkpoints.save(self.folder, 1, state)
    self.assertFalse(self.folder.exists())

  def test_a_relative_folder(self):
    self.folder.mkdir()
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.folder)
    checkpoints.save("here", 1, {"a": np.zeros(2, np.float32)})
    self.assertEqual(checkpoints.load(Path("here"), {"a": np.zeros(2, np.float32)})[1], 1)

  def test_half_a_config_that_a_kill_left_is_cleared_away_by_the_next_save(self):
    leftover = self.folder / "config.json.tmp-123"
    self.folder.mkdir(parents=True)
    leftover.write_text("{")
    checkpoints.save(self.folder, 1, {"x": jnp.zeros(2)}, config={"step": 1})
    self.assertFalse(leftover.exists())

  def test_config(self):
    config = {"task": {"num_chains": 5, "reset_prob": 0.3}, "commit": None}
    with self.assertRaises(FileNotFoundError):
      checkpoints.load_config(self.folder)
    checkpoints.save(self.folder, 1, {"a": np.zeros(2, np.float32)}, config=config)
    self.assertEqual(checkpoints.load_config(self.folder), config)
    checkpoints.save(self.folder, 2, {"a": np.zeros(2, np.float32)})
    self.assertEqual(checkpoints.load_config(self.folder), config)
    self.assertEqual(self.steps(), ["1", "2", "config.json"])

  @parameterized.named_parameters(
    ("seeds", {"num_seeds": 4}, r"step is int32\[8\], expected int32\[4\] \(10 more fields differ\)"),
    ("width", {"width": 4}, r"params\.blocks\.w is bfloat16\[8, 2, 3\], expected bfloat16\[8, 2, 4\] \(5 more"),
  )
  def test_another_shape_is_one_line(self, changes, message):
    checkpoints.save(self.folder, 30, make_state(over_seeds(4)))
    with self.assertRaisesRegex(ValueError, rf"^checkpoint {self.folder}/30: {message}") as caught:
      checkpoints.load(self.folder, make_state(over_seeds(4), **changes))
    self.assertNotIn("\n", str(caught.exception))

  @parameterized.named_parameters(
    ("type", lambda s: s._replace(step=s.step.astype(jnp.float32)), r"step is int32\[8\], expected float32\[8\]$"),
    ("added", lambda s: s._replace(extra=dict(s.extra, new=s.step)), r"extra\.new is not there, expected int32\[8\]$"),
    (
      "left_out",
      lambda s: s._replace(extra={"done": s.extra["done"]}),
      r"extra\.baseline is float16\[8\], expected no",
    ),
    ("optimiser", lambda s: s._replace(opt_state=s.opt_state[1:]), r"opt_state\.0\.count is .*, expected no such"),
    ("array_for_group", lambda s: s._replace(params=s.step), r"params is not there, expected int32\[8\] \(2 more"),
  )
  def test_another_structure_is_one_line(self, change, message):
    state = make_state(over_seeds(4))
    checkpoints.save(self.folder, 30, state)
    with self.assertRaisesRegex(ValueError, rf"^checkpoint {self.folder}/30: {message}") as caught:
      checkpoints.load(self.folder, change(state))
    self.assertNotIn("\n", str(caught.exception))

  @parameterized.named_parameters(
    ("longer", "rbg", "threefry2x32", r"uint32\[8, 4\], expected uint32\[8, 2\]"),
    ("as_long", "rbg", "unsafe_rbg", r"key<rbg>\[8\], expected key<urbg>\[8\]"),
    ("raw_wanted", "rbg", None, r"key<rbg>\[8\], expected uint32\[8, 4\]"),
    ("raw_saved", None, "rbg", r"uint32\[8, 4\], expected key<rbg>\[8\]"),
  )
  def test_keys_of_another_kind_are_one_line(self, saved, wanted, message):
    def keys(impl):
      data = jnp.arange(16 if impl == "threefry2x32" else 32, dtype=jnp.uint32).reshape(8, -1)
      return {"key": data if impl is None else jax.random.wrap_key_data(data, impl=impl)}

    checkpoints.save(self.folder, 30, keys(saved))
    with self.assertRaisesRegex(ValueError, rf"^checkpoint {self.folder}/30: key is {message}$"):
      checkpoints.load(self.folder, keys(wanted))
    found, _ = checkpoints.load(self.folder, keys(saved))
    self.assertEqual(bits(found["key"]), bits(keys(saved)["key"]))

  def test_an_older_step_half_deleted_does_no_harm(self):
    # What a kill leaves that strikes while older steps are deleted, after the newer one is whole.
    for step in (1, 2):
      checkpoints.save(self.folder, step, {"a": np.full(2, step, np.int32)})
    shutil.rmtree(self.folder / "1" / "state")
    (self.folder / "1" / "_CHECKPOINT_METADATA").unlink()
    found, step = checkpoints.load(self.folder, {"a": np.zeros(2, np.int32)})
    self.assertEqual((step, list(found["a"])), (2, [2, 2]))
    checkpoints.save(self.folder, 3, {"a": np.full(2, 3, np.int32)})
    self.assertEqual(self.steps(), ["2", "3"])


# Saves one state after another, each filled with its step, on another number of devices than the test's.
_SAVE_FOR_EVER = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 2)
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from loopjax.training import checkpoints

mesh = jax.make_mesh((2,), ("seed",), axis_types=(AxisType.Auto,))
fill = lambda step: [jnp.full((4, 100_000 + i), step, jnp.int32) for i in range(4)]
state = jax.device_put(fill(0), NamedSharding(mesh, PartitionSpec("seed")))
latest = checkpoints.load(sys.argv[1], state)
step = latest[1] if latest else 0
while step < int(sys.argv[2]):
  step += 1
  checkpoints.save(sys.argv[1], step, jax.tree.map(lambda x: jnp.full_like(x, step), state), config={"step": step})
"""


class KilledTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"

  def start(self, last_step):
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    command = [sys.executable, "-c", _SAVE_FOR_EVER, str(self.folder), str(last_step)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

  def latest(self):
    return max((int(path.name) for path in self.folder.glob("*") if path.name.isdigit()), default=0)

  def leftovers(self):
    return list(self.folder.glob("*orbax-checkpoint-tmp*"))

  def load(self):
    sharding = over_seeds(4)
    state = [jax.ShapeDtypeStruct((4, 100_000 + i), jnp.int32, sharding=sharding) for i in range(4)]
    return checkpoints.load(self.folder, state)

  def test_a_kill_in_mid_save_leaves_whole_checkpoints_only(self):
    before, struck = 0, 0
    for delay in (0.0, 0.01, 0.04):  # seconds into a save
      child = self.start(10**6)
      deadline = time.monotonic() + 60
      while self.latest() < before + 2 or not self.leftovers():  # until it has resumed, and is saving again
        self.assertIsNone(child.poll(), child.stderr.read() if child.poll() is not None else "")
        self.assertLess(time.monotonic(), deadline)
        time.sleep(0.001)
      time.sleep(delay)
      child.send_signal(signal.SIGKILL)
      child.communicate()
      struck += bool(self.leftovers())
      found, step = self.load()
      self.assertGreaterEqual(step, before + 2)
      for leaf in found:
        np.testing.assert_array_equal(leaf, step)
      self.assertGreaterEqual(checkpoints.load_config(self.folder)["step"], step)
      before = step
    self.assertGreater(struck, 0)  # else no kill was in mid-save, and nothing was tested

    # The run then ends in peace: leftovers are cleared away, and nothing is said at exit.
    child = self.start(before + 2)
    _, errors = child.communicate(timeout=60)
    self.assertEqual((child.returncode, errors), (0, ""))
    self.assertEqual(sorted(path.name for path in self.folder.iterdir())[-1], "config.json")
    self.assertEqual(self.leftovers(), [])
    self.assertEqual(self.load()[1], before + 2)


if __name__ == "__main__":
  absltest.main()
