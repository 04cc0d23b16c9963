"""The host loop: killed and stopped runs resume to the same bits, NaN stays in its seed, other runs are refused."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from jax.sharding import Mesh

from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import students
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import fresh_student
from loopjax.training import checkpoints, runner
from loopjax.training.step import Objective, Training, TrainState, make_optimizer

NUM_SEEDS = 3  # on four devices: one row of padding
TRAINING = Training(num_steps=400, rows_per_step=4, learning_rate=0.01, warmup_steps=5)
RUN_CONFIG = {"task": {"num_chains": 5}, "temperatures": [0.0, 1.0], "seed": 0}


@functools.cache  # one objective, and so one program for all tests of one config and devices
def objective() -> Objective:
  """Of a student that compiles in a second: one matrix, from noise to noise."""

  def loss(params, batch, key, extra):
    total = jnp.sum((jnp.tanh(batch[:, 0] @ params["w"]) - batch[:, 1]) ** 2)
    return total, jnp.float32(len(batch)), {"calls": extra["calls"] + 1}

  return Objective(lambda key, state, extra: jax.random.normal(key, (2, 8)), loss)


def initial(mesh, width: int = 8) -> TrainState:
  w = jnp.asarray(np.random.default_rng(0).normal(size=(NUM_SEEDS, 8, width)), jnp.float32)
  opt_state = jax.vmap(make_optimizer(TRAINING).init)({"w": w})
  keys = jax.random.split(jax.random.key(0), NUM_SEEDS)
  extra = {"calls": jnp.zeros(NUM_SEEDS, jnp.int32)}
  return seeds.place(TrainState(jnp.zeros(NUM_SEEDS, jnp.int32), {"w": w}, opt_state, keys, (), extra), mesh)


def mesh_of(num_devices: int) -> Mesh:
  return jax.make_mesh((num_devices, 1), (devices.SEED, devices.DATA), devices=jax.devices()[:num_devices])


def train(folder=None, state=None, run_config=None, config=TRAINING, until=None, mesh=None) -> runner.Trained:
  mesh = mesh or devices.device_mesh()
  state = initial(mesh) if state is None else state
  return runner.train(
    objective(), config, state, mesh, num_seeds=NUM_SEEDS, until=until, folder=folder,
    run_config=run_config or RUN_CONFIG,
  )  # fmt: skip


def train_slowly(folder: str) -> None:
  """Saves after every step: what the child processes run."""
  runner.SECONDS_PER_CHUNK = runner.SECONDS_PER_SAVE = 0.0
  train(folder)


def train_together(folder: str) -> None:
  """What each of several processes runs."""
  devices.initialize_distributed()
  train(folder)


def start(function: str, folder: Path, **settings: str) -> subprocess.Popen[str]:
  """A process that runs a function of this module."""
  paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
  common = {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
  return subprocess.Popen(
    [sys.executable, "-c", f"from tests.training import runner_test; runner_test.{function}({str(folder)!r})"],
    env={**os.environ, **common, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **settings},
    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip


def assert_same_bits(found: TrainState, expected: TrainState, rows=slice(None)) -> None:
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
    is_key = jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    x, y = (np.asarray(jax.random.key_data(leaf) if is_key else leaf)[rows] for leaf in (a, b))
    np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


class RunnerTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"

  def check_history(self, history, num_steps=TRAINING.num_steps):
    """A row per seed and chunk, in order, none twice, up to the last step."""
    self.assertFalse(history.duplicated(["step", "row"]).any())
    chunks = history.groupby("step", sort=False)["row"].agg(list)
    self.assertTrue(chunks.index.is_monotonic_increasing)
    self.assertEqual(chunks.tolist(), [list(range(NUM_SEEDS))] * len(chunks))
    self.assertEqual(chunks.index[-1], num_steps)


class InterruptedTest(RunnerTest):
  def start(self, folder: Path) -> subprocess.Popen[str]:
    return start("train_slowly", folder)

  def saved_steps(self, folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())

  def test_stopped_by_any_signal_a_run_resumes_to_the_same_bits(self):
    signals = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
    with contextlib.ExitStack() as stack:
      children = {}
      for number in signals:
        children[number] = self.start(self.folder / number.name)
        stack.callback(children[number].kill)
      whole = train()
      self.check_history(whole.history)
      np.testing.assert_array_equal(whole.state.step[:NUM_SEEDS], TRAINING.num_steps)
      for number, code in signals.items():
        with self.subTest(number.name):
          self.check_one(children[number], self.folder / number.name, number, code, whole)

  def check_one(self, child, folder, number, code, whole):
    deadline = time.monotonic() + 120
    while not (saved := self.saved_steps(folder)):
      self.assertIsNone(child.poll(), child.stderr.read() if child.poll() is not None else "")
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.005)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    self.assertEqual(child.returncode, code, errors[-2000:])
    stopped_at = self.saved_steps(folder)[-1]
    print(f"{number.name}: first checkpoint {saved[0]}, stopped at {stopped_at} of {TRAINING.num_steps}")
    self.assertBetween(stopped_at, 1, TRAINING.num_steps - 10)
    resumed = train(folder)
    assert_same_bits(resumed.state, whole.state)
    self.check_history(resumed.history)
    self.assertIn(stopped_at, set(resumed.history["step"]))  # the history from before is kept
    self.assertEqual(self.saved_steps(folder)[-1], TRAINING.num_steps)

  def test_a_signal_ends_the_run_after_its_chunk_and_leaves_the_handlers_as_they_were(self):
    before = signal.getsignal(signal.SIGTERM)
    chunk_frame, steps = runner._chunk_frame, []

    def strike(step, metrics):
      steps.append(step)
      if len(steps) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
      return chunk_frame(step, metrics)

    with mock.patch.object(runner, "_chunk_frame", strike), self.assertRaises(SystemExit) as raised:
      train(self.folder)
    self.assertEqual(raised.exception.code, 143)
    self.assertLen(steps, 3)
    self.assertEqual(self.saved_steps(self.folder), steps[-1:])
    self.assertEqual(signal.getsignal(signal.SIGTERM), before)

  def test_a_second_signal_acts_at_once(self):
    # A job that a shell started in the background ignores SIGINT.
    self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
    with self.assertRaises(KeyboardInterrupt), runner._signals() as stop:
      os.kill(os.getpid(), signal.SIGINT)
      self.assertEqual(stop, [signal.SIGINT])
      os.kill(os.getpid(), signal.SIGINT)
    self.assertEqual(signal.getsignal(signal.SIGINT), signal.default_int_handler)


class ResumeTest(RunnerTest):
  def test_a_finished_run_is_loaded_and_not_trained_again(self):
    first = train(self.folder)
    with mock.patch.object(runner, "_compile", side_effect=AssertionError("trained again")):
      again = train(self.folder)
    assert_same_bits(again.state, first.state)
    self.assertEqual(again.history.to_dict("list"), first.history.to_dict("list"))

  def test_stages_of_one_schedule_give_the_bits_of_a_run_without_stops(self):
    for until in (7, 150):
      stage = train(self.folder, until=until)
      np.testing.assert_array_equal(stage.state.step[:NUM_SEEDS], until)
      self.check_history(stage.history, until)
    again = train(self.folder, until=150)
    assert_same_bits(again.state, stage.state)
    with self.assertRaisesRegex(ValueError, r"until=149 .* at least 150, where these students are"):
      train(self.folder, until=149)
    with self.assertRaisesRegex(ValueError, r"until=401 .* 1 to training.num_steps=400"):
      train(self.folder, until=401)
    whole = train(self.folder)
    assert_same_bits(whole.state, train().state)
    self.check_history(whole.history)

  @parameterized.parameters((4, 1), (4, 3), (1, 4), (1, 1))
  def test_a_run_goes_on_on_other_devices(self, stopped_on, resumed_on):
    train(self.folder, until=150, mesh=mesh_of(stopped_on))
    resumed = train(self.folder, mesh=mesh_of(resumed_on))
    assert_same_bits(resumed.state, train().state, rows=slice(NUM_SEEDS))
    self.assertEqual(resumed.state.step.shape, (resumed_on * -(-NUM_SEEDS // resumed_on),))
    self.check_history(resumed.history)
    again = train(self.folder, mesh=mesh_of(stopped_on))
    assert_same_bits(again.state, resumed.state, rows=slice(NUM_SEEDS))

  def test_two_processes_go_on_where_one_was(self):
    train(self.folder, until=150)  # on 4 devices, and then on 3 of each
    with socket.socket() as free:
      free.bind(("localhost", 0))
      address = f"localhost:{free.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "3"}
    children = [start("train_together", self.folder, JAX_PROCESS_ID=str(i), **common) for i in range(2)]
    for child in children:
      self.addCleanup(child.kill)
    for child in children:
      _, errors = child.communicate(timeout=120)
      self.assertEqual(child.returncode, 0, errors[-2000:])
    self.assertEqual(checkpoints.saved_shapes(self.folder)["step"], (6,))
    found = train(self.folder)  # on 4 again; all is done
    self.check_history(found.history)
    assert_same_bits(found.state, train().state, rows=slice(NUM_SEEDS))

  def test_rows_of_the_history_past_the_checkpoint_are_dropped(self):
    with mock.patch.object(runner, "SECONDS_PER_SAVE", -1.0):  # saves after every chunk
      whole = train(self.folder)
    for step in whole.history["step"].unique()[-3:]:  # a crash between history and checkpoint
      path = self.folder / str(step)
      if step == TRAINING.num_steps:
        os.rename(path, self.folder.parent / "lost")
    resumed = train(self.folder)
    self.check_history(resumed.history)
    assert_same_bits(resumed.state, whole.state)

  def test_another_config_is_refused_by_the_field_that_differs(self):
    short = Training(**{**TRAINING.__dict__, "num_steps": 3})
    train(self.folder, config=short)
    train(self.folder, config=short)  # the same is not
    other = {**RUN_CONFIG, "task": {"num_chains": 7}}
    with self.assertRaisesRegex(ValueError, r"another run: task\.num_chains=5 there, 7 "):
      train(self.folder, config=short, run_config=other)
    with self.assertRaisesRegex(ValueError, r"another run: temperatures=\[0\.0, 1\.0\] there, \[0\.0\] "):
      train(self.folder, config=short, run_config={**RUN_CONFIG, "temperatures": [0.0]})
    with self.assertRaisesRegex(ValueError, r"another run: remedy=None there, 'margin' "):
      train(self.folder, config=short, run_config={**RUN_CONFIG, "remedy": "margin"})

  def test_a_checkpoint_of_other_shapes_is_refused(self):
    train(self.folder, config=Training(**{**TRAINING.__dict__, "num_steps": 3}))
    before = checkpoints.load_config(self.folder)
    with self.assertRaisesRegex(ValueError, r"params\.w is float32\[4, 8, 8\], expected float32\[4, 8, 6\]"):
      train(self.folder, state=initial(devices.device_mesh(), width=6))
    self.assertEqual(checkpoints.load_config(self.folder), before)


class NotFiniteTest(RunnerTest):
  def test_a_seed_that_is_lost_is_reported_and_harms_no_other(self):
    clean = train()
    np.testing.assert_array_equal(clean.is_finite, [True] * 3)
    poisoned = initial(devices.device_mesh())
    poisoned.params["w"] = poisoned.params["w"].at[1, 2, 3].set(jnp.nan)
    with self.assertLogs(level="WARNING") as logs:
      found = train(state=poisoned)
    self.assertRegex("".join(logs.output), r"seed row 1 left out: loss or gradient were not finite by step 1$")
    np.testing.assert_array_equal(found.is_finite, [True, False, True])
    assert_same_bits(found.state, clean.state, rows=np.array([0, 2]))
    self.assertTrue(np.isnan(found.state.params["w"][1]).all())
    lost = found.history["row"] == 1
    self.assertTrue(np.isnan(found.history["loss"][lost]).all())
    self.assertTrue(np.isfinite(found.history["loss"][~lost]).all())

  def test_a_seed_lost_before_the_run_was_resumed_is_not_forgotten(self):
    short = Training(**{**TRAINING.__dict__, "num_steps": 5})
    poisoned = initial(devices.device_mesh())
    poisoned.params["w"] = poisoned.params["w"].at[1].set(jnp.inf)
    train(self.folder, state=poisoned, config=short)
    resumed = train(self.folder)
    np.testing.assert_array_equal(resumed.is_finite, [True, False, True])
    self.check_history(resumed.history)

  def test_a_gradient_that_is_not_finite_marks_a_seed(self):
    """The loss of the one step is finite, and so is that of another seed whose gradient is the same elsewhere."""

    def loss(params, batch, key, extra):
      total, weight, extra = objective().loss(params, batch, key, extra)
      return total + 0 * jnp.sqrt(params["w"][0, 0]), weight, extra  # 0 times an infinite slope where w is 0

    start = initial(devices.device_mesh())
    start.params["w"] = jnp.abs(start.params["w"]).at[1, 0, 0].set(0)
    config = Training(**{**TRAINING.__dict__, "num_steps": 1})
    with self.assertLogs(level="WARNING") as logs:
      found = runner.train(
        objective()._replace(loss=loss), config, start, devices.device_mesh(), num_seeds=NUM_SEEDS
      )  # fmt: skip
    self.assertTrue(np.isfinite(found.history["loss"]).all())
    np.testing.assert_array_equal(np.isfinite(found.history["gradient_norm"]), [True, False, True])
    np.testing.assert_array_equal(found.is_finite, [True, False, True])
    self.assertRegex("".join(logs.output), r"seed row 1 left out: loss or gradient were not finite by step 1$")

  def test_loss_gradient_and_parameters_each_mark_a_seed(self):
    """A gradient may overflow and be clipped to nothing; parameters may overflow at the very last step."""
    rows, nothing = np.tile(np.arange(4), 2), np.zeros(8)
    history = pd.DataFrame({"step": np.repeat([1, 3], 4), "row": rows, "loss": nothing, "gradient_norm": nothing})
    history.loc[0, "loss"], history.loc[5, "gradient_norm"] = np.nan, np.inf
    params = {"w": jnp.ones((4, 2, 2)).at[2, 1, 0].set(jnp.inf), "b": jnp.ones(4)}
    with self.assertLogs(level="WARNING") as logs:
      np.testing.assert_array_equal(runner.finite_rows(history, params, 4), [False, False, False, True])
    expected = ("loss or gradient were not finite by step 1", "loss or gradient were not finite by step 3")
    expected += ("its parameters are not finite",)
    for row, reason in enumerate(expected):
      self.assertEndsWith(logs.output[row], f"seed row {row} left out: {reason}")


class ProgramTest(absltest.TestCase):
  def test_runs_that_differ_in_the_teachers_probabilities_alone_share_a_compiled_program(self):
    model, config = Transformer(num_layers=1, num_heads=1, width=4), Training(num_steps=2, rows_per_step=1)
    tasks = [StarGraph(num_chains=2, chain_length=1, max_steps=4, explore_prob=e) for e in (0.1, 0.5, 0.5)]
    tasks[-1] = dataclasses.replace(tasks[-1], chain_length=2)
    runner._compile.cache_clear()
    for task, programs in zip(tasks, (1, 1, 2), strict=True):
      students.train_students([task], model, config, range(2), devices.device_mesh())
      self.assertEqual(runner._compile.cache_info().misses, programs)


class InitialStatesTest(absltest.TestCase):
  def test_a_seed_begins_alike_under_every_task(self):
    tasks = [StarGraph(num_chains=2, chain_length=1, spare_labels=1, reset_prob=p) for p in (0.1, 0.2)]
    model = Transformer(num_layers=1, num_heads=2, width=8)
    state = students.initial_states(tasks, model, TRAINING, [7, 8, 9], devices.device_mesh())
    params = seeds.to_host(state.params, 6)
    keys = seeds.to_host(jax.random.key_data(state.key), 6)
    np.testing.assert_allclose(
      seeds.to_host(state.task.probabilities.reset_prob, 6), [0.1] * 3 + [0.2] * 3
    )  # task by task
    np.testing.assert_array_equal(state.step, 0)
    for leaf in [*jax.tree.leaves(params), keys]:
      np.testing.assert_array_equal(leaf[:3], leaf[3:])
    kernel = params["head"]["kernel"]
    for i, j in ((0, 1), (0, 2), (1, 2)):
      self.assertGreater(np.min(np.abs(kernel[i] - kernel[j])), 0)
      self.assertFalse(np.array_equal(keys[i], keys[j]))
    # Row 1 is the student that seed 8 makes by itself.
    make = lambda key: fresh_student(tasks[0], model, key, (), ()).params["head"]["kernel"]
    np.testing.assert_allclose(kernel[1], jax.jit(make)(jax.random.key(8)), atol=1e-6)


if __name__ == "__main__":
  absltest.main()
