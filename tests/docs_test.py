"""The code of the pages runs, and does what the page says; the worked example of the definitions is the teacher's."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from experiments import experiment, sweep
from loopjax import claims
from loopjax.generation.processors import PROCESSORS
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import graph, null_worlds, students, teacher, walks
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import OBJECTIVES
from loopjax.sweep import store, tables, units
from loopjax.training import step
from loopjax.training.step import Training
from tests.models.students import random_params
from tests.remedies import cases

DOCS = Path(__file__).parents[1] / "docs"
TASK = StarGraph(num_chains=2, chain_length=1, max_steps=8, explore_prob=0.5)
MODEL, TRAINING = Transformer(num_layers=1, num_heads=1, width=8), Training(num_steps=3, rows_per_step=2)


class PageTest(parameterized.TestCase):
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
    config = resets.Resets(
      task=TASK, reset_probs=(0.1, 0.4), model=MODEL, training=TRAINING, num_seeds=2, num_graphs=16
    )
    found, text = experiment.run(resets.EXPERIMENT, config, self.folder / "run")
    frame = found["resets"]
    self.assertIn("reset 0.4", text)
    self.assertLen(frame, 2 * 2 * 2)
    self.assertFalse(frame.duplicated(["condition", "seed", "temperature"]).any())
    np.testing.assert_allclose(frame["reached"] + frame["broken"] + frame["cut"], 1, rtol=1e-6)
    self.assertGreater((self.folder / "run" / "figures" / "resets.png").stat().st_size, 2_000)
    verdicts = claims.evaluate(resets.claims(config), frame, "standard")
    self.assertEqual(verdicts["verdict"][0], claims.UNFIT)  # three steps make no student
    with self.assertRaisesRegex(ValueError, r"^num_seeds=0 "):
      dataclasses.replace(config, num_seeds=0)
    with self.assertRaisesRegex(ValueError, r"^reset_probs=\(0\.1, 0\.1\) "):
      dataclasses.replace(config, reset_probs=(0.1, 0.1))

    (unit,) = units.make_units("resets", config, {}, first_seed=1, num_seeds=1, seeds_per_unit=1)
    compute = functools.partial(sweep.compute, resets.EXPERIMENT)
    self.assertTrue(store.run_unit(self.folder / "sweep", unit, compute, keep_work=False))
    alone = tables.read_unit(store.unit_folder(self.folder / "sweep", unit)).rows
    in_run = frame[frame["seed"] == 1].reset_index(drop=True)
    np.testing.assert_array_equal(alone["condition"], in_run["condition"])
    np.testing.assert_allclose(alone["response_length"], in_run["response_length"], rtol=1e-6)

  @parameterized.parameters(
    ("memoryless", claims.HOLDS), ("exact teacher", claims.FAILS), ("independent errors", claims.FAILS)
  )
  def test_the_experiments_claim_holds_where_it_must_and_nowhere_else(self, world, verdict):
    resets = self.module_of("adding_an_experiment.md", "resets")
    config = resets.Resets(task=TASK, reset_probs=(0.1, 0.4), model=MODEL, training=TRAINING, num_graphs=64)
    (claim,) = resets.claims(config)
    self.assertTrue(world in claim.must_not_hold or verdict == claims.HOLDS)
    frame = resets.measure(config, null_worlds.Pretender(world, devices.device_mesh()))["resets"]
    (found,) = claims.evaluate([claim], frame, "standard", check_fitness=False).itertuples()
    self.assertEqual(found.verdict, verdict)
    self.assertAlmostEqual(found.value, claim.predicted if verdict == claims.HOLDS else claim.null, delta=0.5)

  def test_a_processor(self):
    page, mesh = self.module_of("adding_a_processor.md", "fading_penalty"), devices.device_mesh()
    self.addCleanup(PROCESSORS.pop, "fading_penalty")
    fresh = students.train_students([TASK], MODEL, TRAINING, range(2), mesh)
    frame = page.evaluate_with_and_without(fresh, TASK)
    self.assertEqual(frame["fading_penalty"].tolist(), [0.0, 0.5] * 2)
    self.assertEqual(frame["temperature"].tolist(), [0.0] * 4)
    page.test_what_comes_off_is_the_faded_count()
    with self.assertRaisesRegex(ValueError, r"^fading_penalty\.half_life=0 .* at least 1"):
      page.FadingPenalty(half_life=0)
    with self.assertRaisesRegex(ValueError, "^fading_penalty=-1 .* at least 0"):
      page.FadingPenalty().check(-1)

  def test_a_remedy(self):
    remedy = self.module_of("adding_a_remedy.md", "entropy_bonus")
    plain = students.train_students([TASK], MODEL, TRAINING, range(2), devices.device_mesh())
    ours = remedy.train_with_and_without(TASK, MODEL, TRAINING, 0.5, num_seeds=2)
    without = ours.history[ours.history["row"] < 2].reset_index(drop=True)
    np.testing.assert_allclose(without["loss"], plain.history["loss"], rtol=1e-5)
    first = ours.history[ours.history["step"] == 1].set_index("row")["loss"]
    # Fresh students are unsure: the entropy is close to log V, half of which the bonus takes off.
    np.testing.assert_allclose(first[2] - first[0], -0.5 * np.log(TASK.vocabulary_size), rtol=0.3)
    with self.assertRaisesRegex(ValueError, r"^objective\.entropy_weight=-1 .* at least 0$"):
      remedy.EntropyBonus(-1)

  def test_a_remedy_in_short_is_the_same_objective(self):
    remedy, batch = self.module_of("adding_a_remedy.md", "entropy_bonus"), cases.packed_batch(TASK, length=8)
    given = random_params(MODEL, TASK), batch, jax.random.key(0), jnp.float32(0.5)
    built = (build(TASK, MODEL, TRAINING) for build in (remedy.entropy_bonus, remedy.in_short))
    full, short = (str(jax.make_jaxpr(objective.loss)(*given)) for objective in built)
    self.assertEqual(full, short)

  def test_use_from_python(self):
    self.assertIn("Training(num_steps=1_000, ", (DOCS / "python.md").read_text())
    with mock.patch.object(step, "Training", lambda **settings: Training(**settings | {"num_steps": 3})):
      page = self.module_of("python.md", "one_walk")
    np.testing.assert_allclose(page.frame["reached"] + page.frame["broken"] + page.frame["cut"], 1, rtol=1e-6)
    self.assertEqual(page.frame["temperature"].tolist(), [0.0, 0.4, 1.0])
    self.assertEqual(page.walk[0], graph.START)
    asked = ~np.isnan(page.traces.off_graph[0, 0, 0])
    np.testing.assert_allclose(page.traces.teacher[0, 0, 0][asked].sum(axis=-1), 1, rtol=1e-6)

  def test_students_of_a_remedy_are_loaded_once_it_is_entered(self):
    remedy, mesh = self.module_of("adding_a_remedy.md", "entropy_bonus"), devices.device_mesh()
    asked = ([TASK], MODEL, TRAINING, range(2), mesh)
    students.train_students(*asked, objectives=[remedy.EntropyBonus(0.25)], folder=self.folder / "checkpoints")
    with mock.patch.dict(OBJECTIVES), self.assertRaisesRegex(ValueError, "objective='EntropyBonus' "):
      del OBJECTIVES["EntropyBonus"]
      students.load_students(self.folder / "checkpoints", mesh)
    loaded = students.load_students(self.folder / "checkpoints", mesh)
    self.assertEqual(loaded.objectives, [remedy.EntropyBonus(0.25)])
    np.testing.assert_array_equal(seeds.to_host(loaded.state.extra, 2), [0.25, 0.25])


class WorkedWalkTest(absltest.TestCase):
  def test_the_worked_walk_of_the_definitions_is_the_teachers(self):
    task = StarGraph(num_chains=3, chain_length=2, max_steps=16, explore_prob=0.5)
    names = ["s", "r"] + [f"c[{i},{j}]" for i in (1, 2, 3) for j in (1, 2)]
    rows = re.findall(r"^\| \d+ \| (\S+) \| (.*?) \| (\S+) \|$", (DOCS / "definitions.md").read_text(), re.M)
    walk = jnp.array([names.index(row[0]) for row in rows] + [names.index(rows[-1][-1])])
    self.assertEqual([names.index(row[-1]) for row in rows], walk[1:].tolist())
    goal_chain = jnp.int32(1)
    probabilities, visited = teacher.teacher_probabilities(task), teacher.visited_children(task, walk)
    for step_number, (_, told, _) in enumerate(rows):
      right = teacher.next_node_probabilities(task, probabilities, goal_chain, walk[step_number], visited[step_number])
      said = np.zeros(task.num_nodes)
      for name, probability in re.findall(r"(s|r|c\[\d,\d\]) ([\d.]+)", told):
        said[names.index(name)] = float(probability)
      np.testing.assert_allclose(said, right, atol=5e-4)
    measures = walks.measure_walk(task, probabilities, walk, goal_chain)
    self.assertEqual([measures.reached, measures.response_length, measures.returns, measures.root_loops], [1, 10, 2, 1])
    self.assertEqual([measures.distinct_children, measures.revisits], [2, 0])


class LinksTest(absltest.TestCase):
  def test_every_page_and_section_that_is_linked_is_there(self):
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
      for target, section in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target
        self.assertTrue(linked.exists(), f"{page.name} links {target}")
        if section:
          headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
          names = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
          self.assertIn(section, names, f"{page.name} links {target}")

  def test_no_page_has_a_place_left_to_fill(self):
    """A place to fill is a line, a cell or the end of a sentence of capitals alone, or a TODO."""
    for page in DOCS.glob("*.md"):
      left = re.findall(r"^[A-Z]{5,}$|[|;] [A-Z]{5,}\b|\bTODO\b", page.read_text(), re.M)
      self.assertEmpty(left, page.name)

  def test_the_readme_is_short(self):
    self.assertLessEqual(len((DOCS.parent / "README.md").read_text().split()), 700)


if __name__ == "__main__":
  absltest.main()
