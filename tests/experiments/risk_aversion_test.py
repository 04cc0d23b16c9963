"""Proposition 1's quantities: on its exact solution, against plain NumPy, and of students."""

from __future__ import annotations

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.analysis import root_distribution
from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.star_graph import student_functions, teacher, theory
from loopjax.star_graph.encoding import Row
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.null_worlds import Law, Lawful, law_parameters
from loopjax.star_graph.rollouts import sample_problems
from tests.star_graph import brute_force

MODEL = Transformer(num_layers=2, num_heads=2, width=16)
NUM_VISITS = 3


def make_task(n: int = 3, l: int = 2, max_steps: int = 12, **settings) -> StarGraph:
  return StarGraph(n, l, spare_labels=2, max_steps=max_steps, **settings)


@functools.cache
def jitted_measures(n: int, l: int):
  return jax.jit(functools.partial(root_distribution.measure_root, make_task(n, l)))


def measure(task: StarGraph, nodes: np.ndarray, cycle_prob: float, goal_chain: int) -> dict[str, float]:
  program = jitted_measures(task.num_chains, task.chain_length)
  measures = program(jnp.array(nodes, jnp.float32), jnp.float32(cycle_prob), jnp.int32(goal_chain))
  return {name: float(value) for name, value in measures._asdict().items()}


def solution(task: StarGraph, cycle_prob: float) -> np.ndarray:
  """Proposition 1's student, [N]."""
  nodes = np.zeros(task.num_nodes)
  nodes[START] = cycle_prob
  nodes[brute_force.children_of_root(task)] = (1 - cycle_prob) / task.num_chains
  return nodes


def plain_measures(task: StarGraph, nodes: np.ndarray, p: float, goal_chain: int) -> dict[str, float]:
  """The definitions, over nodes and one more outcome for all that is off the graph; float64, sums one by one."""
  student = np.append(nodes, 1 - nodes.sum())
  best = np.append(solution(task, p), 0.0)
  children = nodes[brute_force.children_of_root(task)]
  share = children / children.sum()
  return dict(
    cycle_probability=nodes[START],
    largest_child_probability=max(children),
    risk_aversion_ratio=nodes[START] / max(children),
    goal_child_probability=children[goal_chain],
    child_entropy=-sum(x * np.log(x) for x in share if x > 0) / np.log(len(share)) if len(share) > 1 else np.nan,
    invalid_mass=student.sum() - nodes[START] - children.sum(),
    kl_from_solution=sum(a * (np.log(a / b) if b > 0 else np.inf) for a, b in zip(best, student, strict=True) if a > 0),
    total_variation=sum(abs(a - b) for a, b in zip(best, student, strict=True)) / 2,
    cycle_is_argmax=float(nodes[START] > max(children)),
  )


class MeasureRootTest(parameterized.TestCase):
  @parameterized.product(n=(1, 2, 5), offset=(-0.02, 0.02))
  def test_exact_solution(self, n, offset):
    """On both sides of the line p = 1/(n + 1)."""
    task, p = make_task(n), 1 / (n + 1) + offset
    got = measure(task, solution(task, p), p, n - 1)
    self.assertAlmostEqual(got["cycle_probability"], p, delta=1e-6)
    self.assertAlmostEqual(got["goal_child_probability"], (1 - p) / n, delta=1e-6)
    self.assertAlmostEqual(got["largest_child_probability"], (1 - p) / n, delta=1e-6)
    self.assertAlmostEqual(got["risk_aversion_ratio"], p * n / (1 - p), delta=1e-5)
    for name in ("kl_from_solution", "total_variation", "invalid_mass"):
      self.assertAlmostEqual(got[name], 0, delta=1e-6, msg=name)
    self.assertEqual(got["cycle_is_argmax"], offset > 0)
    self.assertEqual(str(theory.argmax_phase(p, n)), "cycle" if got["cycle_is_argmax"] else "child")
    if n == 1:
      self.assertTrue(np.isnan(got["child_entropy"]))
    else:
      self.assertAlmostEqual(got["child_entropy"], 1, delta=1e-6)

  @hypothesis.given(
    sizes=st.sampled_from([(1, 1), (2, 1), (3, 2), (5, 3)]),  # each is compiled
    p=st.floats(0, 1),
    seed=st.integers(0, 10**6),
    concentration=st.sampled_from([0.1, 1.0, 10.0]),
    off_graph=st.sampled_from([0.0, 0.3, 0.9]),
  )
  def test_against_plain_numpy(self, sizes, p, seed, concentration, off_graph):
    task, rng = make_task(*sizes), np.random.default_rng(seed)
    raw = rng.dirichlet(np.full(task.num_nodes, concentration)) + 1e-4  # log 0 has a test of its own
    nodes = (raw / raw.sum() * (1 - off_graph)).astype(np.float32).astype(float)
    goal_chain = int(rng.integers(task.num_chains))
    want = plain_measures(task, nodes, np.float32(p), goal_chain)
    got = measure(task, nodes, p, goal_chain)
    self.assertEqual(set(got), set(want))
    for name, value in want.items():
      np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=1e-6, err_msg=name)

  def test_a_child_given_nothing(self):
    """Its entropy term is 0; the divergence is infinite, for the solution gives every child something."""
    task = make_task(3, 1)
    nodes = np.array([0.4, 0.0, 0.6, 0.0, 0.0])
    got = measure(task, nodes, 0.3, 1)
    want = plain_measures(task, nodes, 0.3, 1)
    self.assertEqual((got["child_entropy"], got["kl_from_solution"]), (0, np.inf))
    np.testing.assert_allclose(list(got.values()), [want[name] for name in got], rtol=1e-6)

  def test_mass_off_the_path_is_invalid(self):
    """On r itself, on inner chain nodes, and on labels that are not on the graph."""
    task = make_task(2, 2)  # children 2 and 4
    got = measure(task, np.array([0.2, 0.1, 0.3, 0.05, 0.15, 0.05]), 0.3, 0)
    self.assertAlmostEqual(got["invalid_mass"], 0.35, delta=1e-6)  # 0.2 on nodes, 0.15 off the graph
    self.assertAlmostEqual(got["total_variation"], (0.1 + 0.05 + 0.2 + 0.35) / 2, delta=1e-6)


@functools.cache
def params_and_problems():
  """A random student, and two graphs with two goals each: of one shape for every task here."""
  task = make_task()
  params = jax.jit(functools.partial(transformer.init_params, MODEL, task))(jax.random.key(0))
  problems = jax.jit(lambda key: sample_problems(task, key, 2, 2))(jax.random.key(1))
  return params, problems._replace(goal_chain=jnp.array([[0, 1], [2, 0]]))


def root_probabilities(task: StarGraph, params, problems, num_visits: int) -> jax.Array:
  student, probabilities = student_functions.functions_of(MODEL, task), teacher.teacher_probabilities(task)
  return root_distribution.root_probabilities(task, student, params, probabilities, problems, num_visits)


@functools.cache
def student_at_root(encoding_name: str, goal_hidden: bool) -> np.ndarray:
  """That student's probabilities, [G, R, K, N]."""
  task = make_task(encoding=encoding_name, goal_hidden=goal_hidden)
  params, problems = params_and_problems()
  return np.asarray(jax.jit(lambda p: root_probabilities(task, p, problems, NUM_VISITS))(params))


def plain_row(task: StarGraph, labels: list[int], edge_order: list[int], goal_chain: int) -> tuple[Row, list[int]]:
  """A batch of one row with the goal and s r s r s r, nothing after it, built by hand; and where r stands in it."""
  pairs = []
  for edge in edge_order:
    child = edge + 1
    parent = ROOT if child in brute_force.children_of_root(task) else child - 1
    pairs.append((labels[parent], labels[child]))
  null, marker = task.vocabulary_size, task.vocabulary_size + 1
  prompt = pairs if task.encoding == "edge" else [(label, null) for pair in pairs for label in pair]
  goal = [] if task.goal_hidden else [(labels[brute_force.goal_of(task, goal_chain)], marker)]
  tokens = goal + [(labels[START], null), (labels[ROOT], null)] * NUM_VISITS
  zeros = jnp.zeros((1, 1, len(tokens)), jnp.int32)
  positions = len(prompt) + jnp.arange(len(tokens))[None, None]
  row = Row(jnp.array([prompt]), jnp.array([[tokens]]), positions, zeros, zeros, zeros, zeros, jnp.array([labels]))
  return row, [len(goal) + 2 * visit + 1 for visit in range(NUM_VISITS)]


class StudentTest(parameterized.TestCase):
  @parameterized.parameters(("edge", False), ("edge", True), ("flat", False))
  def test_root_probabilities_are_those_of_a_plain_forward_pass(self, encoding_name, goal_hidden):
    task = make_task(encoding=encoding_name, goal_hidden=goal_hidden)
    params, problems = params_and_problems()
    got = student_at_root(encoding_name, goal_hidden)
    self.assertEqual(got.shape, (2, 2, NUM_VISITS, task.num_nodes))
    forward = jax.jit(lambda p, row: transformer.apply(MODEL, task, p, row).logits)
    for i, j in np.ndindex(2, 2):
      labels, order = problems.graphs.labels[i].tolist(), problems.graphs.edge_order[i].tolist()
      row, places = plain_row(task, labels, order, int(problems.goal_chain[i, j]))
      logits = np.asarray(forward(params, row), np.float64)[0, 0, places]
      over_labels = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
      np.testing.assert_allclose(got[i, j], over_labels[:, labels], rtol=1e-4, atol=1e-6)
    spread = np.ptp(got, axis=2).max(axis=-1)
    self.assertGreater(spread.min(), 1e-3)  # visits differ, so that a shift by one visit would show
    if goal_hidden:
      np.testing.assert_allclose(got[:, 0], got[:, 1], rtol=1e-5)
    else:
      self.assertGreater(np.abs(got[:, 0] - got[:, 1]).max(), 1e-3)

  def test_measures_at_every_prompt_and_visit(self):
    task, (params, problems) = make_task(), params_and_problems()
    student = student_functions.functions_of(MODEL, task)
    measures = functools.partial(root_distribution.measure_students_root, task, student, num_visits=NUM_VISITS)
    got = jax.jit(measures)(params, teacher.teacher_probabilities(task), problems)  # with a reset of 0.3
    nodes = student_at_root("edge", False)
    for place in np.ndindex(2, 2, NUM_VISITS):
      want = plain_measures(task, np.asarray(nodes[place], np.float64), 0.3, int(problems.goal_chain[place[:2]]))
      for name, field in got._asdict().items():
        self.assertEqual(field.shape, (2, 2, NUM_VISITS))
        np.testing.assert_allclose(field[place], want[name], rtol=1e-4, atol=1e-6, err_msg=name)

  @parameterized.parameters((7, 3), (8, 3), (9, 4))
  def test_as_many_visits_as_the_cut_allows(self, max_steps, most):
    """K visits and the moves after them are 2 K + 1 nodes."""
    task, (params, problems) = make_task(max_steps=max_steps), params_and_problems()
    shape = jax.eval_shape(lambda: root_probabilities(task, params, problems, most)).shape
    self.assertEqual(shape, (2, 2, most, task.num_nodes))
    with self.assertRaisesRegex(ValueError, f"num_visits={most + 1} is not allowed: at most {most}"):
      root_probabilities(task, params, problems, most + 1)


class LawTest(parameterized.TestCase):
  @parameterized.parameters(0.1, 0.3, 0.5)
  def test_the_memoryless_learner_is_the_solution_at_every_visit(self, reset_prob):
    """On both sides of the line p = 1/(n + 1), by the code that networks go through."""
    task = make_task(reset_prob=reset_prob, explore_prob=0.5)
    student = student_functions.functions_of(Lawful(), task)
    _, problems = params_and_problems()
    measures = functools.partial(root_distribution.measure_students_root, task, student, num_visits=NUM_VISITS)
    law = law_parameters(Law("memoryless", loop_posterior=False), jax.random.key(0))
    got = measures(law, teacher.teacher_probabilities(task), problems)
    np.testing.assert_allclose(got.cycle_probability, reset_prob, rtol=1e-3)
    np.testing.assert_allclose(got.goal_child_probability, (1 - reset_prob) / 3, rtol=1e-3)
    np.testing.assert_allclose(got.total_variation, 0, atol=1e-3)
    np.testing.assert_array_equal(got.cycle_is_argmax, theory.argmax_phase(reset_prob, 3) == "cycle")


if __name__ == "__main__":
  absltest.main()
