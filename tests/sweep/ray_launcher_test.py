"""On a Ray cluster of this machine: a worker that is killed in the middle of its unit costs a retry, and no row."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from unittest import mock

from absl.testing import absltest

from loopjax import sweep
from loopjax.sweep import ray_launcher, store, tables
from loopjax.sweep.launch import State
from tests.sweep.sweep_experiment import GRID, Toy, draw, draw_or_die, make_units


class WithoutRayTest(absltest.TestCase):
  def test_the_extra_is_named(self):
    outcomes = ray_launcher.run_on_ray(
      Path("/nowhere"), make_units(), draw, keep_work=False, address=None, resources={}, retries=0
    )
    with (
      mock.patch.dict("sys.modules", ray=None),
      self.assertRaisesRegex(ValueError, r"pip install loopjax\[cluster\]"),
    ):
      next(outcomes)

  def test_resources(self):
    self.assertEqual(ray_launcher._options({}), {"num_cpus": 1, "resources": {}})
    options = ray_launcher._options({"CPU": 2.0, "GPU": 0.5, "TPU": 4.0})
    self.assertEqual(options, {"num_cpus": 2.0, "num_gpus": 0.5, "resources": {"TPU": 4.0}})


@absltest.skipUnless(importlib.util.find_spec("ray"), "needs Ray: pip install loopjax[cluster]")
class ClusterTest(absltest.TestCase):
  def test_a_sweep_completes_although_workers_are_killed(self):
    folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    todo = make_units()  # 4, of which 2 die at first
    store.claim(folder, "toy", Toy(), GRID, todo)
    outcomes = list(
      ray_launcher.run_on_ray(
        folder, todo, draw_or_die, keep_work=False, address="local", resources={"CPU": 1}, retries=2
      )
    )
    self.assertCountEqual(outcomes, [(unit, State.DONE, "") for unit in todo])
    ran = [path.name.split("-") for path in folder.glob("ran-*")]
    processes = [pid for *_, pid in ran]
    self.assertLen(ran, 4 + 2, ran)
    self.assertLen(set(processes), len(ran))  # each in a process of its own
    merged = sweep.merge(folder, folder / "all.parquet")
    self.assertFalse(merged.duplicated(["scale", "seed", "temperature"]).any())
    self.assertLen(merged, 2 * 4 * 2)
    self.assertEmpty(list(folder.glob(f"{tables.UNITS}/*/work")))


if __name__ == "__main__":
  absltest.main()
