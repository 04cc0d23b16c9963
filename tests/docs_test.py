"""The pages on adding an experiment and a remedy: their code runs, and does what the page says."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
import tempfile
import types
from pathlib import Path

import jax
import numpy as np
from absl.testing import absltest

from loopjax import claims, seeds, students
from loopjax.star_graph import StarGraph
from loopjax.sweep import store, tables, units
from loopjax.training import Training
from loopjax.transformer import Transformer

DOCS = Path(__file__).parents[1] / "docs"
TASK = StarGraph(num_chains=2, chain_length=1, max_steps=8, explore_prob=0.5)
MODEL, TRAINING = Transformer(num_layers=1, num_heads=1, width=8), Training(num_steps=3, rows_per_step=2)


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


class PageTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def module_of(self, page: str, name: str) -> types.ModuleType:
    """All Python code of a page as the module that a reader would make of it."""
    path = self.folder / f"{name}.py"
    path.write_text("\n\n".join(re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    self.addCleanup(sys.modules.pop, name)
    spec.loader.exec_module(module)
    return module

  def test_an_experiment(self):
    resets = self.module_of("adding_an_experiment.md", "resets")
    config = resets.Resets(task=TASK, model=MODEL, training=TRAINING, num_seeds=2)
    frame = resets.run(config, self.folder / "run")
    self.assertLen(frame, 2 * 2 * 2)
    self.assertFalse(frame.duplicated(["condition", "seed", "temperature"]).any())
    self.assertGreater((self.folder / "run" / "figures" / "resets.png").stat().st_size, 2_000)
    verdicts = claims.evaluate(resets.claims(), frame, "standard")
    self.assertIn(verdicts["verdict"][0], (claims.HOLDS, claims.FAILS, claims.UNDECIDED))
    with self.assertRaisesRegex(ValueError, r"^num_seeds=0 "):
      dataclasses.replace(config, num_seeds=0)

    (unit,) = units.make_units("resets", config, {}, first_seed=1, num_seeds=1, seeds_per_unit=1)
    self.assertTrue(store.run_unit(self.folder / "sweep", unit, resets.compute, keep_work=False))
    alone = tables.read_unit(store.unit_folder(self.folder / "sweep", unit)).rows
    in_run = frame[frame["seed"] == 1].reset_index(drop=True)
    np.testing.assert_array_equal(alone["condition"], in_run["condition"])
    np.testing.assert_allclose(alone["response_length"], in_run["response_length"], rtol=1e-6)

  def test_a_remedy(self):
    remedy = self.module_of("adding_a_remedy.md", "entropy_bonus")
    plain = students.train_students([TASK], MODEL, TRAINING, range(2), seeds.device_mesh())
    ours = remedy.train_with_and_without(TASK, MODEL, TRAINING, 0.5, num_seeds=2)
    without = ours.history[ours.history["row"] < 2].reset_index(drop=True)
    np.testing.assert_allclose(without["loss"], plain.history["loss"], rtol=1e-5)
    first = ours.history[ours.history["step"] == 1].set_index("row")["loss"]
    # Fresh students are unsure: the entropy is close to log V, half of which the bonus takes off.
    np.testing.assert_allclose(first[2] - first[0], -0.5 * np.log(TASK.vocabulary_size), rtol=0.3)
    with self.assertRaisesRegex(ValueError, r"^entropy_weight=-1 .* at least 0$"):
      remedy.entropy_bonus_state(TASK, -1)


class LinksTest(absltest.TestCase):
  def test_every_page_that_is_linked_is_there(self):
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
      for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        self.assertTrue((page.parent / target).exists(), f"{page.name} links {target}")


if __name__ == "__main__":
  absltest.main()
