"""Students whose truth is known: their walks and losses, by the code of trained ones, against the exact theory."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import evaluation, fitness, null_worlds, student_functions, teacher, theory, walks
from loopjax.star_graph.graph import ROOT, StarGraph
from loopjax.star_graph.null_worlds import Law, Pretender
from loopjax.star_graph.objective import MaximumLikelihood
from loopjax.star_graph.sharing import Request
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training

TOLERANCE = 4.5  # standard errors, of several hundred comparisons; keys are fixed: a test passes always or never
TEMPERATURES = (0.0, 0.4, 1.0)
SEEDS = range(2)
MODEL = Transformer(num_layers=1, num_heads=2, width=8)


def make_task(**settings) -> StarGraph:
  """G(3, 2), cut at 20: one compiled program a law."""
  return StarGraph(3, 2, max_steps=20, spare_labels=1, **settings)


# At T = 0: the goal's child leads; a margin leads, with ties; everything ties; the memoryless learner's cycle leads.
CLEAN = [
  make_task(reset_prob=0.2, explore_prob=0.5),
  make_task(reset_prob=0.2, explore_prob=1.0, visited_margin=0.2),
  make_task(reset_prob=0.0, explore_prob=1.0),
  make_task(reset_prob=0.4, explore_prob=0.5),
]
INJECTED = [
  make_task(reset_prob=0.3, explore_prob=0.5, injected_share=share) for share in (0.0, 0.02, 0.3)
]  # fmt: skip


def rolled_out(law: Law, tasks: list[StarGraph], num_graphs: int = 600) -> evaluation.Rollouts:
  """On the host, leaves [S, G, R, ...], `SEEDS` for every task."""
  mesh = devices.device_mesh()
  students = null_worlds.law_students(law, tasks, Training(), SEEDS, mesh)
  rollouts = evaluation.roll_out(students, generation=at_temperatures(TEMPERATURES), num_graphs=num_graphs, seed=0)
  return seeds.to_host(rollouts, len(tasks) * len(SEEDS))


@functools.cache
def jitted_measures():
  one = functools.partial(walks.measure_walk, teacher.sizes_of(make_task()))
  return jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))


class ExactWalksTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("teacher", Law(loop_posterior=False), CLEAN, theory.teacher_statistics),
    ("memoryless", Law("memoryless", loop_posterior=False), CLEAN, theory.memoryless_statistics),
    ("traced", Law("teacher"), INJECTED, functools.partial(theory.loop_posterior_statistics, traced=True)),
    ("untraced", Law("memoryless"), INJECTED, functools.partial(theory.loop_posterior_statistics, traced=False)),
  )
  def test_walks_have_the_exact_statistics(self, law, tasks, statistics):
    rollouts, largest = rolled_out(law, tasks), 0.0
    for number, task in enumerate(tasks):
      of_task = slice(number * len(SEEDS), (number + 1) * len(SEEDS))
      for column, temperature in enumerate(TEMPERATURES):
        nodes = rollouts.nodes[of_task, :, column].reshape(-1, task.max_steps)
        goals = rollouts.problems.goal_chain[of_task, :, column].ravel()
        got = jitted_measures()(teacher.teacher_probabilities(task), jnp.asarray(nodes), jnp.asarray(goals))
        self.assertEqual(float(got.broken.max()), 0)
        exact = statistics(task, temperature=temperature)
        for name in {field.name for field in dataclasses.fields(exact)} & set(got._fields):
          values = np.asarray(getattr(got, name), np.float64)
          values = values[np.isfinite(values)]
          if len(values) > 1:
            error = values.std(ddof=1) / np.sqrt(len(values))
            off = abs(values.mean() - getattr(exact, name))
            message = f"{task} T={temperature} {name}: {values.mean():.4f} +- {error:.4f}, {getattr(exact, name):.4f}"
            rare = 10 / len(values) if error == 0 else 1e-5  # what happens so seldom may not have happened
            self.assertLessEqual(off, TOLERANCE * error + rare, message)
            largest = max(largest, off / error if error > 0 else 0)
          else:
            self.assertTrue(np.isnan(getattr(exact, name)) or exact.reached < 0.01)
    print(f"{law}: largest deviation {largest:.1f} standard errors")


class LossTest(absltest.TestCase):
  def test_losses_are_the_exact_ones_and_lie_above_an_equal_learner_by_nothing(self):
    mesh, tasks = devices.device_mesh(), CLEAN[:2]
    exact = {
      "teacher": [theory.teacher_loss(task) for task in tasks],
      "memoryless": [theory.memoryless_loss(task) for task in tasks],
    }
    for learner in exact:
      students = null_worlds.law_students(Law(learner), tasks, Training(), range(4), mesh)
      frame = fitness.evaluate_losses(students, num_graphs=200, seed=0)
      for name in frame.columns.drop("row"):
        other = name.removeprefix("loss_above_") if name != "loss" else None
        found = frame[name].to_numpy().reshape(2, 4)
        want = [exact[learner][i] - (exact[other][i] if other else 0) for i in range(2)]
        print(f"{learner}, {name}: {found.mean(axis=1).round(4)}, exact {np.round(want, 4)}")
        if other == learner:
          np.testing.assert_allclose(found, 0, atol=2e-3)  # ties are broken by errors of 1e-4 nats
        else:
          error = found.std(axis=1, ddof=1) / 2
          np.testing.assert_array_less(np.abs(found.mean(axis=1) - want), 6 * error)
          self.assertLess(error.max(), 0.05)


def visits(rollouts: evaluation.Rollouts, student: int) -> list[list[list[np.ndarray]]]:
  """For each graph and column, the children's logits [C] at every visit to r from which the walk goes on."""
  nodes, logits = rollouts.nodes[student], rollouts.child_logits[student]
  asked = (nodes[..., :-1] == ROOT) & (nodes[..., 1:] != PADDING)
  return [[list(logits[g, r][asked[g, r]]) for r in range(nodes.shape[1])] for g in range(nodes.shape[0])]


@functools.cache
def erroneous(memory: float) -> evaluation.Rollouts:
  law = Law(error_size=ErrorsTest.SIZE, memory=memory, loop_posterior=False)
  return rolled_out(law, [ErrorsTest.TASK], ErrorsTest.GRAPHS)


class ErrorsTest(absltest.TestCase):
  """A teacher who never resets and always explores: its children tie, so that logits differ by the errors alone."""

  TASK, SIZE, GRAPHS = CLEAN[2], 0.5, 250

  def errors(self, memory: float, student: int = 0) -> list[list[list[np.ndarray]]]:
    of_visits = visits(erroneous(memory), student)
    return [[[at - np.log(1 / 3) for at in walk] for walk in columns] for columns in of_visits]

  def test_errors_are_as_large_as_the_law_says_and_remembered_as_much(self):
    for memory in (0.0, 0.7):
      of_walks = [columns[-1] for columns in self.errors(memory)]  # at T = 1; at T = 0 the way depends on the errors
      everything = np.concatenate([np.ravel(walk) for walk in of_walks])
      self.assertAlmostEqual(everything.std(), self.SIZE, delta=0.05)
      pairs = np.array([[walk[v], walk[v + 1]] for walk in of_walks for v in range(len(walk) - 1)])
      self.assertGreater(len(pairs), 150)
      correlation = np.corrcoef(pairs[:, 0].ravel(), pairs[:, 1].ravel())[0, 1]
      print(f"memory {memory}: correlation of the errors of consecutive visits {correlation:.3f} ({len(pairs)} pairs)")
      self.assertLess(abs(correlation - memory), 4 / np.sqrt(pairs[:, 0].size))

  def test_independent_errors_are_a_function_of_the_walk_so_far(self):
    """So the columns of a graph, which have one goal, agree at visit 1, and where they took another way do not."""
    apart = 0
    nodes = erroneous(0.0).nodes[0]
    for graph, columns in enumerate(self.errors(0.0)):
      for other in (1, 2):
        np.testing.assert_allclose(columns[other][0], columns[0][0], rtol=1e-5)
        if min(len(columns[0]), len(columns[other])) > 1 and nodes[graph, 0, 2] != nodes[graph, other, 2]:
          self.assertGreater(np.abs(columns[other][1] - columns[0][1]).min(), 1e-6)
          apart += 1
    self.assertGreater(apart, 10)
    firsts = np.array([columns[0][0] for columns in self.errors(0.0)])
    self.assertLen(np.unique(firsts, axis=0), len(firsts))  # graphs differ

  def test_a_standing_preference_is_the_same_at_every_visit_and_differs_between_graphs_and_students(self):
    for columns in self.errors(1.0):
      for walk in columns:
        np.testing.assert_allclose(walk, [columns[0][0]] * len(walk), rtol=1e-5, atol=1e-6)
    firsts = np.array([columns[0][0] for i in range(2) for columns in self.errors(1.0, i)])
    self.assertLen(np.unique(firsts, axis=0), len(firsts))
    self.assertAlmostEqual(firsts.std(), self.SIZE, delta=0.08)

  def test_reading_a_walk_again_gives_the_very_answers_of_the_rollout(self):
    """Also in a student that resets, with a margin and a loop posterior."""
    tasks = [make_task(reset_prob=0.3, explore_prob=0.8, visited_margin=0.1, injected_share=0.05)]
    law = Law("memoryless", error_size=0.3)
    rollouts = rolled_out(law, tasks, 20)
    student = student_functions.functions_of(null_worlds.Lawful(), teacher.sizes_of(tasks[0]))
    state = null_worlds.law_students(law, tasks, Training(), SEEDS, devices.device_mesh()).state
    read = jax.jit(lambda law, *asked: student.read(law, teacher.teacher_probabilities(tasks[0]), *asked))
    for row in SEEDS:
      problems, nodes = jax.tree.map(lambda leaf, row=row: leaf[row], (rollouts.problems, rollouts.nodes))
      logits = read(jax.tree.map(lambda leaf, row=row: leaf[row], state.params), problems, nodes)
      children = student_functions.child_logits(tasks[0], problems.graphs, logits)
      asked = nodes[..., 1:] != PADDING
      self.assertGreater(np.sum(asked & (nodes[..., :-1] == ROOT)), 100)
      np.testing.assert_allclose(children[asked], rollouts.child_logits[row][asked], rtol=1e-5)
      confidence = np.max(jax.nn.softmax(logits), axis=-1)
      np.testing.assert_allclose(confidence[asked], rollouts.confidence[row][..., 1:][asked], rtol=1e-5)


class WorldsTest(parameterized.TestCase):
  def test_untrained_networks_break_at_once(self):
    mesh = devices.device_mesh()
    students = Pretender("untrained", mesh)(Request("any", CLEAN[:1], MODEL, Training(), range(4)))
    frame = evaluation.evaluate_students(students, generation=at_temperatures((0.0, 1.0)), num_graphs=40, seed=0)
    means = frame.groupby("temperature")[["reached", "broken", "cut", "response_length"]].mean()
    print(means)
    self.assertGreater(means["broken"].min(), 0.9)
    self.assertLess(means["response_length"].max(), 2)

  @parameterized.parameters(*(name for name, law in null_worlds.WORLDS.items() if law is not None))
  def test_a_pretender_gives_the_worlds_students_whatever_is_asked_for(self, world):
    pretender = Pretender(world, devices.device_mesh())
    students = pretender(Request("any", CLEAN, MODEL, Training(), [3, 4, 5]))
    law = null_worlds.WORLDS[world]
    params = jax.tree.map(lambda leaf: seeds.to_host(leaf, 12), students.state.params._replace(key=jnp.zeros(12)))
    np.testing.assert_array_equal(params.is_memoryless, law.learner == "memoryless")
    np.testing.assert_array_equal(params.memory, np.float32(law.memory))
    np.testing.assert_allclose(params.error_size, law.error_size)
    np.testing.assert_array_equal(params.loop_posterior, law.loop_posterior)
    self.assertEqual((students.tasks, students.seed_numbers), (CLEAN, [3, 4, 5]))
    self.assertEqual(students.objectives, [MaximumLikelihood()] * 4)
    np.testing.assert_array_equal(students.is_finite, [True] * 12)
    keys = seeds.to_host(jax.random.key_data(students.state.key), 12).reshape(4, 3, -1)
    of_laws = seeds.to_host(jax.random.key_data(students.state.params.key), 12).reshape(4, 3, -1)
    self.assertTrue(np.all(np.any(of_laws != keys, axis=-1)))  # errors are drawn apart from graphs and walks
    np.testing.assert_array_equal(keys, keys[:1].repeat(4, axis=0))  # a seed is asked on the same graphs in every task
    self.assertLen(np.unique(keys[0], axis=0), 3)
    resets = seeds.to_host(students.state.task.probabilities.reset_prob, 12)
    np.testing.assert_allclose(resets, np.repeat([task.reset_prob for task in CLEAN], 3))

  def test_mistakes(self):
    with self.assertRaisesRegex(ValueError, "^world='flat' is not allowed: must be one of "):
      Pretender("flat", devices.device_mesh())
    for changes, message in (
      ({"learner": "bayes"}, "^law.learner='bayes' .* 'teacher' or 'memoryless'$"),
      ({"memory": 1.5}, "^law.memory=1.5 .* 0 to 1$"),
      ({"error_size": 0.0}, "^law.error_size=0.0 .* above 0$"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        Law(**changes)
    with self.assertRaisesRegex(ValueError, "^task.chain_length=1 .* another size, another run$"):
      null_worlds.law_students(
        Law(), [CLEAN[0], dataclasses.replace(CLEAN[0], chain_length=1)], Training(), [0], devices.device_mesh()
      )


if __name__ == "__main__":
  absltest.main()
