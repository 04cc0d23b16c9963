"""Sweeps: every seed of every point runs once, whatever stops or damages them, and is read back as it was."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized

from experiments import experiment, registry, temporal_errors
from experiments import sweep as binary
from loopjax import results, sweep
from loopjax.runtime import config as configs
from loopjax.runtime import files
from loopjax.sweep import launch, store, tables, units
from loopjax.sweep.launch import State
from loopjax.training import checkpoints
from tests.sweep import sweep_experiment
from tests.sweep.sweep_experiment import GRID, Toy, draw, make_units

ROOT = Path(__file__).parents[2]
UNPICKLED: list[str] = []


def setUpModule():
  sys.addaudithook(lambda event, _: UNPICKLED.append(event) if event == "pickle.find_class" else None)


def read_strictly(folder: Path) -> pd.DataFrame:
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    return sweep.load(folder)


class GridTest(parameterized.TestCase):
  def test_values_are_json_or_words(self):
    texts = ["a.b=1e-3,2", "c=none,rotary", "d=[0,1],[2]", "e=true", "f=1"]
    expected = {"a.b": [1e-3, 2], "c": ["none", "rotary"], "d": [[0, 1], [2]], "e": [True], "f": [1]}
    self.assertEqual(units.parse_grid(texts), expected)

  @parameterized.parameters(
    (["scale"], "grid='scale' is not allowed: must be field=value"),
    (["scale="], "field=value"),
    (["scale=1", "scale=2"], "all values of scale at once"),
    (["scale=1,1"], "every value once"),
    (["first_seed=1"], "seeds have flags of their own"),
  )
  def test_mistakes(self, texts, message):
    with self.assertRaisesRegex(ValueError, message):
      units.parse_grid(texts)

  @parameterized.parameters(
    ({"scala": [1]}, {}, r"scala=1 is not allowed: must be one of the fields"),
    ({"task.num_chains": [2, 0]}, {}, r"task\.num_chains=0"),
    ({"scale": ["x"]}, {}, "scale='x'"),
    ({"scale": [1, 1.0]}, {}, "two points of one config"),
    ({}, {"num_seeds": 0}, "num_seeds=0"),
    ({}, {"num_seeds": 10**11}, "^first_seed=0 is not allowed: must be 0 to"),
    ({}, {"num_seeds": 10**6}, "^num_seeds=1000000 .* at most 100000 units, not 500000$"),
    ({}, {"first_seed": -1}, "^first_seed=-1"),
    ({"scale": [1e39]}, {}, r"^scale=1e\+39"),
    ({}, {"seeds_per_unit": 0}, "seeds_per_unit=0"),
  )
  def test_points_that_are_no_configs(self, grid, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      make_units(grid=grid, **settings)


class UnitsTest(parameterized.TestCase):
  @parameterized.parameters(*itertools.product((0, 5), (1, 7), (1, 3, 7, 32)))
  def test_every_seed_of_every_point_is_in_one_unit(self, first_seed, num_seeds, seeds_per_unit):
    grid = {"scale": [1, 2, 3], "task.reset_prob": [0.1, 0.2]}
    todo = make_units(seeds_per_unit, grid, first_seed=first_seed, num_seeds=num_seeds)
    found = [(u.config.scale, u.config.task.reset_prob, seed) for u in todo for seed in u.seed_numbers]
    expected = itertools.product([1, 2, 3], [0.1, 0.2], range(first_seed, first_seed + num_seeds))
    self.assertCountEqual(found, expected)
    self.assertLessEqual(max(len(unit.seed_numbers) for unit in todo), seeds_per_unit)

  def test_units_of_one_program_follow_each_other(self):
    todo = make_units(2, {"task.reset_prob": [0.1, 0.2], "task.num_chains": [2, 3]}, num_seeds=5)
    sizes = lambda unit: (unit.config.task.num_chains, unit.config.num_seeds)
    groups = [list(group) for _, group in itertools.groupby(todo, sizes)]
    self.assertEqual([len(group) for group in groups], [4, 2, 4, 2])
    self.assertEqual([len({units.program(unit) for unit in group}) for group in groups], [1] * 4)
    self.assertLen({units.program(unit) for unit in todo}, 4)

  def test_the_name_tells_units_apart_and_nothing_else(self):
    unit = units.Unit("toy", Toy(num_seeds=3, first_seed=4))
    self.assertRegex(unit.name, r"^[0-9a-f]{12}_4-6$")
    plain = configs.to_json(unit.config)
    self.assertEqual(units.unit_name("toy", dict(reversed(plain.items()))), unit.name)
    point = unit.name.partition("_")[0]
    self.assertEqual(dataclasses.replace(unit, config=Toy(num_seeds=9)).name.partition("_")[0], point)
    changes = ({"scale": 3}, {"task.max_steps": 9}, {"temperatures": [0, 0.5]})
    others = [units.Unit("toy", configs.replace(unit.config, change)) for change in changes]
    for other in (units.Unit("other", unit.config), *others):
      self.assertNotEqual(other.name.partition("_")[0], point)

  @parameterized.parameters(1, 3, 8, 20)
  def test_shards_are_all_units_each_once(self, count):
    todo = make_units(1)
    shards = [units.shard(todo, index, count) for index in range(count)]
    self.assertCountEqual(itertools.chain(*shards), todo)
    self.assertLessEqual(max(map(len, shards)) - min(map(len, shards)), 1)

  def test_shards_of_a_job_array(self):
    todo = make_units(1)
    self.assertEqual(units.shard(todo, None, None), todo)
    array = {"ID": "3", "MIN": "1", "STEP": "1", "COUNT": "4"}
    with mock.patch.dict(os.environ, {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}):
      self.assertEqual(units.shard(todo, None, None), units.shard(todo, 2, 4))
      self.assertEqual(units.shard(todo, 0, 1), todo)

  @parameterized.parameters(
    ({"ID": "3"}, "SLURM_ARRAY_TASK_MIN=''"),
    ({"COUNT": "4"}, "SLURM_ARRAY_TASK_ID=''"),
    ({"ID": "3", "MIN": "1", "STEP": "1", "COUNT": "four"}, "SLURM_ARRAY_TASK_COUNT='four'"),
    ({"ID": "9", "MIN": "1", "STEP": "1", "COUNT": "4"}, "shard_index=8 is not allowed: must be 0 to 3"),
  )
  def test_a_job_array_that_is_half_set(self, array, message):
    with (
      mock.patch.dict(os.environ, {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}),
      self.assertRaisesRegex(ValueError, f"^{message}") as raised,
    ):
      units.shard(make_units(), None, None)
    self.assertNotIn("\n", str(raised.exception))

  @parameterized.parameters((4, 4), (-1, 4), (0, 0), (0, None), (None, 2))
  def test_bad_shards(self, index, count):
    with self.assertRaisesRegex(ValueError, "shard_index|num_shards"):
      units.shard(make_units(), index, count)


class FolderTest(parameterized.TestCase):
  """With a folder for a sweep of the toy, two points by four seeds."""

  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "sweep"

  def run_all(self, folder=None, compute=draw, todo=None, base=None, grid=None, keep_work=False):
    folder, todo = folder or self.folder, todo or make_units()
    store.claim(folder, "toy", base or Toy(), grid or GRID, todo)
    return list(launch.run_here(folder, todo, compute, keep_work=keep_work))


class RunTest(FolderTest):
  def test_a_finished_unit_is_one_table_and_its_config_and_is_never_run_again(self):
    todo = make_units()
    self.assertEqual({outcome.state for outcome in self.run_all()}, {State.DONE})
    for unit in todo:
      self.assertCountEqual(os.listdir(store.unit_folder(self.folder, unit)), [tables.ABOUT, tables.ROWS, "lock"])
    before = {path: path.stat().st_mtime_ns for path in self.folder.rglob("*.*")}
    again = self.run_all(compute=mock.Mock(side_effect=AssertionError("ran again")))
    self.assertEqual({outcome.state for outcome in again}, {State.DONE})
    self.assertEqual({path: path.stat().st_mtime_ns for path in self.folder.rglob("*.*")}, before)

  def test_checkpoints_are_kept_where_asked_for(self):
    unit = make_units()[0]
    self.run_all(todo=[unit], keep_work=True)
    self.assertTrue((store.unit_folder(self.folder, unit) / "work" / "checkpoints").exists())
    self.assertTrue(store.is_finished(self.folder, unit, keep_work=True))
    self.assertFalse(store.is_finished(self.folder, unit, keep_work=False))  # as after a kill just before the end
    store.run_unit(self.folder, unit, mock.Mock(side_effect=AssertionError), keep_work=False)
    self.assertTrue(store.is_finished(self.folder, unit, keep_work=False))

  def test_a_unit_that_fails_is_named_and_tried_again_and_harms_no_other(self):
    def fail(config, work):
      if config.scale == 2 and config.first_seed == 2:
        raise ValueError("too\nlarge")
      return draw(config, work)

    outcomes = self.run_all(compute=fail)
    bad = [outcome for outcome in outcomes if outcome.state == State.FAILED]
    self.assertEqual([(o.unit.config.scale, o.unit.config.first_seed, o.error) for o in bad],
                     [(2, 2, "ValueError: too large")])  # fmt: skip
    self.assertLen(read_strictly(self.folder), 3 * 4)
    self.assertEqual({outcome.state for outcome in self.run_all()}, {State.DONE})
    self.assertLen(sweep.merge(self.folder, self.folder / "all.parquet"), 4 * 4)

  def test_a_checkpoint_of_other_shapes_is_one_line_and_harms_no_other_unit(self):
    todo = make_units(4)
    work = store.unit_folder(self.folder, todo[0]) / "work" / "checkpoints" / "toy"
    checkpoints.save(work, 5, {"step": np.zeros(4, np.int32), "params": {"w": np.zeros((4, 9, 9), np.float32)}})
    UNPICKLED.clear()
    first, second = self.run_all(compute=sweep_experiment.train, todo=todo)
    self.assertEqual((first.state, second.state), (State.FAILED, State.DONE))
    self.assertRegex(first.error, rf"^ValueError: checkpoint {work}/5: .* is .*, expected ")
    self.assertNotIn("\n", first.error)
    self.assertEmpty(UNPICKLED)
    self.assertLen(read_strictly(self.folder), 4)

  def test_a_unit_that_another_process_runs_is_left_to_it(self):
    def meanwhile(config, work):
      (outcome,) = self.run_all(todo=todo, compute=mock.Mock(side_effect=AssertionError("run twice")))
      self.assertEqual(outcome.state, State.ELSEWHERE)
      return draw(config, work)

    todo = make_units()[:1]
    (outcome,) = self.run_all(compute=meanwhile, todo=todo)
    self.assertEqual((outcome.state, outcome.error), (State.DONE, ""))

  def test_what_a_killed_process_left_is_no_result_and_is_removed(self):
    unit = make_units()[0]
    home = store.unit_folder(self.folder, unit)
    home.mkdir(parents=True)
    for name in (tables.ABOUT, tables.ROWS):
      (home / f"{name}.tmp-123").write_text("half")
    self.assertFalse(store.is_done(self.folder, unit))
    self.run_all(todo=[unit])
    self.assertCountEqual(os.listdir(home), [tables.ABOUT, tables.ROWS, "lock"])

  def test_rows_of_other_seeds_are_no_results(self):
    shifted = lambda config, work: draw(dataclasses.replace(config, first_seed=config.first_seed + 1), work)
    outcomes = self.run_all(compute=shifted)
    self.assertRegex(outcomes[0].error, "has rows of seeds 1, 2, expected 0, 1")
    self.assertEmpty(read_strictly(self.folder))

  def test_a_folder_of_another_sweep_is_refused(self):
    self.run_all()
    with self.assertRaisesRegex(
      ValueError, r"sweep\.json holds another run: fixed\.task\.max_steps=128 there, 9 asked"
    ):
      self.run_all(base=configs.replace(Toy(), {"task.max_steps": 9}))
    with self.assertRaisesRegex(ValueError, "units="):
      self.run_all(todo=make_units(3))

  def test_lines_say_how_far_it_is(self):
    todo = make_units()
    outcomes = [launch.Outcome(unit, State.DONE) for unit in todo]
    outcomes[1] = launch.Outcome(todo[1], State.FAILED, "ValueError: no")
    with mock.patch.object(time, "monotonic", side_effect=itertools.count(0, 100)), mock.patch("sys.stderr") as stderr:
      self.assertEqual(launch.follow(outcomes, todo, GRID), [outcomes[1]])
    lines = "".join(call.args[0] for call in stderr.write.call_args_list).strip().splitlines()
    self.assertEqual(lines[0], "unit 1 of 4, scale=1.0, seeds 0-1: done; about 5 min left")
    self.assertEqual(lines[1], "unit 2 of 4, scale=1.0, seeds 2-3: failed: ValueError: no; about 3 min left")
    self.assertRegex(lines[-1], "about 0 s left$")


class RunHereTest(FolderTest):
  """The call that notebooks make."""

  def run_here(self, num_seeds=4, **settings):
    measure = lambda config, trainer: {"toy": draw(config, trainer.folder)}
    toy = experiment.Experiment("toy", "", {"quick": Toy()}, measure, lambda *args: "")
    return binary.run_here(toy, Toy(**settings), GRID, self.folder, num_seeds=num_seeds, seeds_per_unit=2)

  def test_runs_all_units_once(self):
    with mock.patch("sys.stderr") as stderr:
      self.assertEqual(self.run_here(), [])
      self.assertEqual(self.run_here(), [])
    self.assertLen([call for call in stderr.write.call_args_list if "unit " in call.args[0]], 4)
    frame = sweep.merge(self.folder, self.folder / "all.parquet")
    self.assertEqual(sorted(frame.groupby(["scale", "seed"]).size().index), [(a, b) for a in (1, 2) for b in range(4)])

  def test_units_that_fail_are_given(self):
    with mock.patch.object(binary, "compute", side_effect=ValueError("no")):
      outcomes = self.run_here()
    self.assertEqual([(outcome.state, outcome.error) for outcome in outcomes], [(State.FAILED, "ValueError: no")] * 4)

  def test_a_folder_of_another_sweep_is_refused(self):
    self.run_here()
    with self.assertRaisesRegex(ValueError, "holds another run"):
      self.run_here(temperatures=(0.5,))


class LoadTest(FolderTest):
  def test_all_rows_with_seed_and_every_field_of_the_config(self):
    self.run_all()
    frame = read_strictly(self.folder)
    expected = []
    for scale in GRID["scale"]:
      rows = draw(Toy(scale=scale), self.folder.parent)
      leaves = results.flatten(configs.to_json(Toy(scale=scale)))
      kept = {name: leaves[name] for name in leaves if name not in units.SEED_FIELDS}
      expected.append(pd.DataFrame({**kept, "temperatures": "0.0,1.0"}, index=rows.index).join(rows))
    pd.testing.assert_frame_equal(frame, pd.concat(expected, ignore_index=True))
    self.assertIn("task.num_chains", frame)

  @parameterized.parameters(1, 3, 4)
  def test_the_table_does_not_depend_on_how_seeds_were_cut(self, seeds_per_unit):
    self.run_all()
    other = self.folder.parent / "other"
    todo = make_units(seeds_per_unit)
    self.run_all(other, todo=todo)
    by = ["scale", "seed", "temperature"]
    found, expected = (read_strictly(folder).sort_values(by, ignore_index=True) for folder in (other, self.folder))
    pd.testing.assert_frame_equal(found, expected)

  def test_a_folder_that_is_not_there(self):
    with self.assertRaisesRegex(FileNotFoundError, "no such folder"):
      sweep.load(self.folder)

  def test_what_cannot_be_read_is_named_and_the_rest_is_read(self):
    todo = make_units(1)
    self.run_all(todo=todo)
    homes = [store.unit_folder(self.folder, unit) for unit in todo]
    whole = (homes[0] / tables.ROWS).read_bytes()
    (homes[0] / tables.ROWS).write_bytes(whole[: len(whole) // 2])
    (homes[1] / tables.ROWS).write_bytes(pickle.dumps(pd.DataFrame({"seed": [1]})))
    (homes[2] / tables.ABOUT).write_text('{"config": ')
    files.write_json(["nothing"], homes[3] / tables.ABOUT)
    (homes[4] / tables.ROWS).write_bytes((homes[5] / tables.ROWS).read_bytes())
    about = files.read_json(homes[5] / tables.ABOUT)
    about["config"]["scale"] = 7.0
    files.write_json(about, homes[5] / tables.ABOUT)
    (homes[6] / tables.ROWS).unlink()
    os.mkfifo(homes[6] / tables.ROWS)
    (homes[6].parent / "notes.txt").write_text("mine")
    (homes[6].parent / "stranger").mkdir()
    named = {
      r"units/notes\.txt: does not belong": 1, r"units/stranger: does not belong": 1, "is not readable Parquet": 2,
      r"unit\.json: is not JSON": 1, "is not about a unit": 1, r"config\.first_seed=1 there, 0 asked": 1,
      r"is about unit \w+_1-1, not": 1, r"rows\.parquet: is not a file": 1,
    }  # fmt: skip
    UNPICKLED.clear()
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      frame = sweep.load(self.folder)
    texts = [str(warning.message) for warning in caught]
    for pattern, count in named.items():
      self.assertLen([text for text in texts if pd.Series([text]).str.contains(pattern).all()], count, pattern)
    self.assertLen(texts, sum(named.values()))
    self.assertFalse(any("\n" in text for text in texts))
    self.assertEqual(frame[["scale", "seed"]].drop_duplicates().to_numpy().tolist(), [[2, 3]])
    self.assertEmpty(UNPICKLED)
    # A sweep run over the damage makes all whole again, except what it may not touch.
    (homes[6] / tables.ROWS).unlink()
    self.run_all(todo=todo)
    with warnings.catch_warnings(record=True):
      warnings.simplefilter("always")
      self.assertLen(sweep.load(self.folder), 8 * 2)

  def test_rows_of_the_same_seeds_of_another_point_are_refused(self):
    todo = make_units(4)
    self.run_all(todo=todo)
    ones, twos = (store.unit_folder(self.folder, unit) / tables.ROWS for unit in todo)
    ones.write_bytes(twos.read_bytes())
    with self.assertWarnsRegex(
      UserWarning, r"rows\.parquet holds another run: config\.scale=2\.0 there, 1\.0 asked for"
    ):
      self.assertLen(sweep.load(self.folder), 4 * 2)
    self.assertFalse(store.is_done(self.folder, todo[0]))

  def test_nothing_in_a_parquet_file_is_unpickled(self):
    todo = make_units()
    self.run_all(todo=todo)
    path = store.unit_folder(self.folder, todo[0]) / tables.ROWS
    table = pq.read_table(path)
    evil = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Toy())}
    fields = [field.with_metadata(evil) for field in table.schema]
    pq.write_table(pa.table(table.columns, schema=pa.schema(fields, table.schema.metadata)), path)
    UNPICKLED.clear()
    self.assertLen(read_strictly(self.folder), 4 * 4)
    self.assertEmpty(UNPICKLED)
    pickle.loads(pickle.dumps(Toy()))
    self.assertNotEmpty(UNPICKLED)  # the hook sees it

  @parameterized.parameters(
    "", "[]", "[" * 100_000, '{"units": "all"}', '{"experiment": "", "grid": {}, "fixed": {}, "units": [1]}'
  )
  def test_without_its_list_of_units_a_sweep_is_read_by_name(self, text):
    self.run_all()
    (self.folder / tables.SWEEP).write_text(text)
    with self.assertWarnsRegex(UserWarning, r"sweep\.json: "):
      self.assertLen(sweep.load(self.folder), 4 * 4)
    with self.assertRaisesRegex(ValueError, r"sweep\.json: "):
      sweep.merge(self.folder, self.folder / "all.parquet")


class MergeTest(FolderTest):
  def refused(self, folders, message: str) -> None:
    output = self.folder.parent / "refused.parquet"
    with self.assertRaisesRegex(ValueError, message) as raised:
      sweep.merge(folders, output)
    self.assertNotIn("\n", str(raised.exception))
    self.assertFalse(output.exists())

  def test_a_whole_sweep_is_written_as_it_is_loaded(self):
    self.run_all()
    merged = sweep.merge(self.folder, self.folder.parent / "all.parquet")
    pd.testing.assert_frame_equal(merged, read_strictly(self.folder))
    pd.testing.assert_frame_equal(pd.read_parquet(self.folder.parent / "all.parquet"), merged)

  def test_shards_on_disks_of_their_own(self):
    todo, folders = make_units(), [self.folder.parent / f"shard-{i}" for i in range(3)]
    for i, folder in enumerate(folders):
      store.claim(folder, "toy", Toy(), GRID, todo)
      list(launch.run_here(folder, units.shard(todo, i, 3), draw, keep_work=False))
    self.run_all()
    merged = sweep.merge(folders, self.folder.parent / "all.parquet")
    pd.testing.assert_frame_equal(merged, read_strictly(self.folder))
    self.refused(folders[:2], "1 of 4 units are missing")

  def test_more_seeds_later(self):
    later = self.folder.parent / "later"
    self.run_all()
    self.run_all(later, todo=make_units(first_seed=4, num_seeds=3))
    merged = sweep.merge([self.folder, later], self.folder.parent / "all.parquet")
    self.assertEqual(merged.groupby("scale")["seed"].agg(lambda seed: sorted(set(seed))).tolist(), [list(range(7))] * 2)

  def test_gaps(self):
    todo = make_units()
    self.run_all()
    (store.unit_folder(self.folder, todo[1]) / tables.ROWS).unlink()
    self.refused(self.folder, rf"^1 of 4 units are missing \(gaps\): {todo[1].name}; see .*/sweep$")

  def test_duplicates(self):
    self.run_all()
    other = self.folder.parent / "other"
    self.run_all(other)
    self.refused([self.folder, other], r"^4 of 4 units are done twice \(duplicates\): \w+_0-1, .*; see .*other.*sweep")
    recut = self.folder.parent / "recut"
    self.run_all(recut, todo=make_units(3))
    self.refused([self.folder, recut], r"^seed 0 is done twice \(duplicates\): in .*_0-1 and .*_0-2$")

  def test_mixed_configs(self):
    self.run_all()
    other = self.folder.parent / "other"
    base = configs.replace(Toy(), {"task.max_steps": 9})
    todo = units.make_units("toy", base, GRID, first_seed=4, num_seeds=2, seeds_per_unit=2)
    self.run_all(other, base=base, todo=todo)
    self.refused([self.folder, other], r"other/sweep\.json holds another run: fixed\.task\.max_steps=9 there, 128")
    os.rename(store.unit_folder(other, todo[0]), store.unit_folder(self.folder, todo[0]))
    self.refused(self.folder, rf"^1 of 4 units are of no sweep merged here \(mixed configs\): {todo[0].name}; see ")

  def test_a_damaged_unit(self):
    self.run_all()
    path = store.unit_folder(self.folder, make_units()[2]) / tables.ROWS
    path.write_bytes(path.read_bytes()[:100])
    self.refused(self.folder, r"rows\.parquet: is not readable Parquet: ")
    self.refused([], "no folders")


class StoppedTest(FolderTest):
  """Processes with the real runner, stopped in the middle of a unit's training."""

  def start(self, folder: Path) -> subprocess.Popen[str]:
    settings = {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
      [sys.executable, "-m", "tests.sweep.sweep_experiment", str(folder), "4"],
      env={**os.environ, **settings}, cwd=ROOT,
      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    self.addCleanup(child.kill)
    return child

  def stop_while_training(self, children: dict[int, subprocess.Popen[str]], folders: dict[int, Path]) -> None:
    """Sends each its signal once it has saved for the first time."""
    deadline, waiting = time.monotonic() + 300, set(children)
    while waiting:
      for number in list(waiting):
        self.assertIsNone(children[number].poll())
        if any(path.name.isdigit() for path in folders[number].glob("units/*/work/checkpoints/toy/*")):
          children[number].send_signal(number)
          waiting.remove(number)
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.005)

  def test_a_stopped_sweep_leaves_nothing_half_and_goes_on_to_the_same_table(self):
    codes = {signal.SIGTERM: 143, signal.SIGKILL: -9}
    folders = {number: self.folder / number.name for number in codes}
    children = {number: self.start(folder) for number, folder in folders.items()}
    self.stop_while_training(children, folders)
    for number, child in children.items():
      _, errors = child.communicate(timeout=60)
      self.assertEqual(child.returncode, codes[number], errors[-2000:])
      self.assertEmpty(read_strictly(folders[number]))
      if number != signal.SIGKILL:
        self.assertEmpty(list(folders[number].rglob("*.tmp-*")))
    again = {number: self.start(folder) for number, folder in folders.items()}
    for child in again.values():
      _, errors = child.communicate(timeout=300)
      self.assertEqual(child.returncode, 0, errors[-2000:])
      self.assertIn("resuming from step", errors)
    merged = [sweep.merge(folder, folder.with_suffix(".parquet")) for folder in folders.values()]
    self.run_all(self.folder / "whole", compute=sweep_experiment.train, todo=make_units(4))
    for frame in merged:
      pd.testing.assert_frame_equal(frame, read_strictly(self.folder / "whole"), rtol=1e-6)

  def test_outside_of_training_a_signal_ends_the_sweep_at_once_and_by_its_number(self):
    before = signal.getsignal(signal.SIGTERM)

    def stopped(config, work):
      def write(path: Path) -> None:
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)

      try:
        files.write_atomically(work.parent / tables.ROWS, write)
      except SystemExit:
        sys.exit(1)  # as Ray does

    with self.assertRaises(SystemExit) as raised, launch.exit_on_signals():
      self.run_all(compute=stopped)
    self.assertEqual(raised.exception.code, 143)
    self.assertEqual(signal.getsignal(signal.SIGTERM), before)
    self.assertEqual([path.name for path in self.folder.glob("units/*/*")], ["lock"])

  def test_inside_of_jax_a_signal_ends_the_process_by_its_number(self):
    # Raised there, in the middle of a compilation, an exception ends in a crash now and then.
    code = (
      "import jax, os, signal\nfrom loopjax.sweep import launch\n"
      "with launch.exit_on_signals():\n  jax.jit(lambda x: os.kill(os.getpid(), signal.SIGTERM) or x)(1.0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True)
    self.assertEqual((ended.returncode, ended.stderr), (143, ""))

  def test_a_job_is_requeued_when_its_time_is_over(self):
    tools = self.folder / "tools"
    tools.mkdir(parents=True)
    sleep = (
      "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(143)); print('up', flush=True); time.sleep(60)"
    )
    for name, text in {
      "python": f'echo "$@" > {tools}/arguments; exec {sys.executable} -c "{sleep}"',
      "scontrol": f'echo "$@" > {tools}/requeued',
    }.items():
      (tools / name).write_text(f"#!/bin/sh\n{text}\n")
      (tools / name).chmod(0o755)
    settings = {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    job = subprocess.Popen(
      ["bash", ROOT / "docs/sweep.sbatch", "--num_seeds=8"],
      env={**os.environ, **settings},
      stdout=subprocess.PIPE,
      text=True,
    )
    self.addCleanup(job.kill)
    self.assertEqual(job.stdout.readline(), "up\n")
    job.terminate()
    job.communicate(timeout=30)
    self.assertEqual(job.returncode, 143)
    self.assertEqual((tools / "requeued").read_text(), "requeue 12_3\n")
    self.assertEqual((tools / "arguments").read_text(), "-m experiments.sweep --num_seeds=8\n")


class BinaryTest(FolderTest):
  @parameterized.parameters("-1", "nan", "inf", "two")
  def test_what_a_unit_takes_is_a_number(self, amount):
    with self.assertRaisesRegex(ValueError, "^ray_resources='CPU=2,GPU=") as raised:
      binary.resources(["CPU=2", f"GPU={amount}"])
    self.assertNotIn("\n", str(raised.exception))
    self.assertEqual(binary.resources(["CPU=2", "GPU=0.5"]), {"CPU": 2, "GPU": 0.5})

  @parameterized.parameters(*registry.EXPERIMENTS)
  def test_every_experiment_can_be_swept_at_every_preset_that_it_has(self, name):
    experiment = registry.EXPERIMENTS[name]
    for preset, config in experiment.presets.items():
      self.assertIs(experiment.at(preset), config)
      (unit,) = units.make_units(name, config, {}, first_seed=3, num_seeds=2, seeds_per_unit=2)
      self.assertEqual((unit.config.first_seed, unit.config.num_seeds), (3, 2))
      asked = [seed for request in experiment.requests(unit.config) for seed in request.seed_numbers]
      self.assertContainsSubset(asked, [3, 4])
      self.assertIn(len(set(asked)), (0, 2))  # 0: an experiment without claims names no requests
    if "paper" not in experiment.presets:
      with self.assertRaisesRegex(ValueError, f"^preset='paper' .* for {name}$"):
        experiment.at("paper")

  def test_an_experiments_main_table_is_the_rows_and_the_others_are_left_beside_its_students(self):
    main, beside = pd.DataFrame({"seed": [0, 1]}), pd.DataFrame({"seed": [0, 1], "step": 3})

    def measure(config, obtain):
      self.assertEqual((config, obtain.output_dir), ("config", self.folder))
      return {"toy_history": beside, "toy": main}

    experiment = types.SimpleNamespace(name="toy", measure=measure)
    pd.testing.assert_frame_equal(binary.compute(experiment, "config", self.folder), main)
    pd.testing.assert_frame_equal(pd.read_parquet(self.folder / "results" / "toy_history.parquet"), beside)
    self.assertFalse((self.folder / "results" / "toy.parquet").exists())

  def test_no_experiment_has_a_column_named_as_a_field(self):
    """Of those that tests run anyway; the others are checked when their units are read."""
    fields = results.flatten(configs.to_json(temporal_errors.PRESETS["quick"]))
    self.assertNoCommonElements(fields, ["seed", "condition", "visited_margin", "walks", "temperature"])

  def test_the_plan_says_what_is_done_and_what_the_rest_may_take(self):
    todo = make_units(2, num_seeds=6)
    before = binary.plan(self.folder, todo, GRID)
    self.assertIn("0 of 6 units done, 12 seeds left", before)
    self.assertIn("known once a unit is done", before)
    self.assertFalse(self.folder.exists())
    self.run_all(todo=todo[:2])
    for unit, seconds in zip(todo[:2], (100.0, None), strict=True):  # the second was stopped once: no rate
      path = store.unit_folder(self.folder, unit) / tables.ABOUT
      files.write_json(files.read_json(path) | {"seconds": seconds, "peak_bytes": 2 * 10**9}, path)
    (store.unit_folder(self.folder, todo[3]) / "work").mkdir(parents=True)
    lines = binary.plan(self.folder, todo, GRID).splitlines()
    self.assertRegex(lines[1], rf"{todo[0].name} +scale=1\.0, seeds 0-1 +done")
    self.assertRegex(lines[3], rf"{todo[2].name} +scale=1\.0, seeds 4-5 +to do")
    self.assertRegex(lines[4], rf"{todo[3].name} +scale=2\.0, seeds 0-1 +begun")
    self.assertEqual(lines[-3], "2 of 6 units done, 8 seeds left")
    self.assertEqual(lines[-2], "time: about 7 min one after another")  # 400 s
    self.assertEqual(lines[-1], "memory: at most 2.0 GB a unit")
    self.assertEqual(binary.plan(self.folder, [], GRID), "no units")  # of a shard too many


if __name__ == "__main__":
  absltest.main()
