"""Temporally correlated errors: on models with known answers, against plain Python, and of students."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax import decoding, teacher
from loopjax.analysis import temporal_errors
from loopjax.analysis.temporal_errors import Resemblance, TemporalErrors, Visits
from loopjax.decoding import LogitsProcessor
from loopjax.student_functions import Problems
from loopjax.star_graph import ROOT, Graph, StarGraph
from loopjax.teacher import PADDING
from loopjax.transformer import Transformer
from tests import brute_force
from tests.transformer_test import random_params

TOLERANCE = 4  # standard errors
NUM_LAGS = 3
REPLICATES = 24
NAN = float("nan")


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes most of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


# Models of errors with known answers: no student, no walks; errors drawn in NumPy.

MODEL_TASK = StarGraph(num_chains=4, chain_length=2, max_steps=14, explore_prob=1.0)
G, R, K, C = 16, 4, 12, 4


@functools.cache
def jitted_measures(task: StarGraph, num_lags: int = NUM_LAGS):
  return jax.jit(functools.partial(temporal_errors.measure_visits, task, num_lags=num_lags))


def random_graphs(task: StarGraph, rng: np.random.Generator, num_graphs: int = G) -> Graph:
  labels = [rng.permutation(task.vocabulary_size)[: task.num_nodes] for _ in range(num_graphs)]
  orders = [rng.permutation(task.num_edges) for _ in range(num_graphs)]
  return Graph(jnp.array(np.stack(labels)), jnp.array(np.stack(orders)))


def prompt_order(task: StarGraph, edge_order) -> list[int]:
  """The children as the prompt lists them."""
  kids = brute_force.children_of_root(task)
  return [kids.index(edge + 1) for edge in edge_order if edge + 1 in kids]


def visits_with(errors: np.ndarray, rng: np.random.Generator) -> Visits:
  """Visits of a uniform teacher with errors [G, R, K, C]; walks of 2..K visits, NaN after their ends."""
  exists = np.arange(K) < rng.integers(2, K + 1, (G, R))[..., None]
  log_student = np.where(exists[..., None], np.asarray(jax.nn.log_softmax(jnp.array(errors))), np.nan)
  return Visits(
    log_student=jnp.array(log_student, jnp.float32),
    log_teacher=jnp.full(errors.shape, -jnp.log(C)),
    exists=jnp.array(exists),
    child=jnp.array(rng.integers(-1, C, (G, R, K))),
    position=jnp.broadcast_to(jnp.arange(K), (G, R, K)),
  )


def independent(rng, orders):
  return rng.normal(size=(G, R, K, C))


def frozen(rng, orders):
  """By walk."""
  return np.broadcast_to(rng.normal(size=(G, R, 1, C)), (G, R, K, C))


def autoregressive(rng, orders, a=0.7):
  errors = rng.normal(size=(G, R, K, C))
  for v in range(1, K):
    errors[:, :, v] = a * errors[:, :, v - 1] + math.sqrt(1 - a * a) * errors[:, :, v]
  return errors


def by_prompt(rng, orders):
  """By graph."""
  return np.broadcast_to(rng.normal(size=(G, 1, 1, C)), (G, R, K, C))


def by_prompt_order(rng, orders):
  """By place in the prompt, alike for all graphs."""
  preference, errors = rng.normal(size=C), np.zeros((G, R, K, C))
  for g, order in enumerate(orders):
    errors[g][..., order] = preference
  return errors


def measure_model(model, seed: int, *, shuffled: bool = False) -> TemporalErrors:
  """On the host; `shuffled` says a wrong prompt order to the measures."""
  rng = np.random.default_rng(seed)
  graphs = random_graphs(MODEL_TASK, rng)
  errors = model(rng, [prompt_order(MODEL_TASK, order) for order in graphs.edge_order.tolist()])
  said = random_graphs(MODEL_TASK, rng) if shuffled else graphs
  return jax.device_get(jitted_measures(MODEL_TASK)(visits_with(errors, rng), said))


@functools.cache
def replicates(model, shuffled: bool = False) -> TemporalErrors:
  """Fields [replicate, ...]."""
  runs = [measure_model(model, seed, shuffled=shuffled) for seed in range(REPLICATES)]
  return jax.tree.map(lambda *fields: np.stack(fields), *runs)


class ModelsTest(parameterized.TestCase):
  def assert_mean(self, values: np.ndarray, expected, tolerance: float = TOLERANCE):
    """Values [replicate, ...] have the mean `expected` within standard errors taken from the replicates."""
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
    deviation = np.abs(np.mean(values, axis=0) - expected)
    self.assertTrue(np.all(deviation <= tolerance * error + 1e-6), f"{deviation} off, standard errors {error}")
    self.assertLess(np.max(error), 0.06)

  def assert_resembles(self, got: Resemblance, persistence: float, correlation):
    self.assert_mean(got.persistence.pooled, persistence)
    self.assert_mean(got.persistence.per_walk, persistence)
    self.assert_mean(got.correlation, correlation)
    np.testing.assert_allclose(got.chance.pooled, 1 / C, rtol=1e-6)

  def test_independent_errors(self):
    got = replicates(independent)
    for pairs in (got.own_walk, got.other_graphs, got.other_walks):
      self.assert_resembles(pairs, 1 / C, 0)
    self.assert_mean(got.copying.pooled, 0)

  def test_a_frozen_preference(self):
    got = replicates(frozen)
    self.assert_resembles(got.own_walk, 1, 1)
    self.assert_resembles(got.other_graphs, 1 / C, 0)
    self.assert_resembles(got.other_walks, 1 / C, 0)

  def test_a_fixed_graph_has_no_other(self):
    rng = np.random.default_rng(0)
    visits, graphs = visits_with(independent(rng, None), rng), random_graphs(MODEL_TASK, rng)
    fixed, free = (
      jax.device_get(jitted_measures(dataclasses.replace(MODEL_TASK, graph_fixed=is_fixed))(visits, graphs))
      for is_fixed in (True, False)
    )
    null = fixed.other_graphs
    for value in (null.persistence.pooled, null.persistence.per_walk, null.chance.pooled, null.correlation):
      self.assertTrue(np.isnan(value).all())
    for counts in (null.correlation_counts, null.persistence.visit_counts, null.persistence.distance_counts):
      np.testing.assert_array_equal(counts, 0)
    unchanged = [measures._replace(other_graphs=None) for measures in (fixed, free)]
    jax.tree.map(np.testing.assert_array_equal, *unchanged)

  def test_autoregressive_errors(self):
    """Correlation at lag k is a^k."""
    got = replicates(autoregressive)
    self.assert_mean(got.own_walk.correlation, 0.7 ** np.arange(1, NUM_LAGS + 1), tolerance=3)
    for pairs in (got.other_graphs, got.other_walks):
      self.assert_resembles(pairs, 1 / C, 0)

  def test_a_preference_driven_by_the_prompt(self):
    """Other walks on the same graph keep it, other graphs lose it."""
    got = replicates(by_prompt)
    self.assert_resembles(got.own_walk, 1, 1)
    self.assert_resembles(got.other_walks, 1, 1)
    self.assert_resembles(got.other_graphs, 1 / C, 0)

  def test_a_preference_by_prompt_order(self):
    """Other graphs keep it, but only where children are aligned by prompt order."""
    got = replicates(by_prompt_order)
    for pairs in (got.own_walk, got.other_graphs, got.other_walks):
      self.assert_resembles(pairs, 1, 1)
    self.assert_resembles(replicates(by_prompt_order, shuffled=True).other_graphs, 1 / C, 0)

  def test_the_only_walk_has_no_nulls(self):
    rng = np.random.default_rng(0)
    visits = jax.tree.map(lambda field: field[:1, :1], visits_with(frozen(rng, None), rng))
    got = jitted_measures(MODEL_TASK, num_lags=1)(visits, random_graphs(MODEL_TASK, rng, 1))
    self.assertAlmostEqual(float(got.own_walk.persistence.pooled), 1)
    for null in (got.other_graphs, got.other_walks):
      values = [null.persistence.pooled, null.persistence.per_walk, null.chance.pooled, null.correlation[0]]
      self.assertTrue(np.isnan(values).all())
      self.assertEqual((null.correlation_counts[0], null.persistence.visit_counts.sum()), (0, 0))


def one_walk(q: list[list[float]], p: list[list[float]], child: list[int], position: list[int]) -> TemporalErrors:
  """The measures of a single walk, in the shape of the models above."""
  m = len(q)
  log_student, log_teacher = np.full((2, G, R, K, C), np.nan)
  exists, (children, positions) = np.zeros((G, R, K), bool), np.zeros((2, G, R, K), int)
  with np.errstate(divide="ignore"):
    log_student[3, 1, :m], log_teacher[3, 1, :m] = np.log(q), np.log(p)
  exists[3, 1, :m], children[3, 1, :m], positions[3, 1, :m] = True, child, position
  visits = Visits(*(jnp.array(x) for x in (log_student, log_teacher, exists, children, positions)))
  return jax.device_get(jitted_measures(MODEL_TASK)(visits, random_graphs(MODEL_TASK, np.random.default_rng(0))))


class ByHandTest(absltest.TestCase):
  UNIFORM = [0.25] * 4

  def test_copying_persistence_and_distance(self):
    """Child 2 is entered at the first visit, none at the second, 1 at the third; nothing follows the fourth."""
    q = [[0.1, 0.2, 0.3, 0.4], [0.1, 0.4, 0.2, 0.3], [0.1, 0.7, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]]
    p = [self.UNIFORM, [0.3, 0.3, 0.1, 0.3], [0.3, 0.3, 0.1, 0.3], [0.4, 0.1, 0.1, 0.4]]
    got = one_walk(q, p, [2, -1, 1, 0], [1, 5, 7, 11])
    mean_log = math.log(0.4 * 0.3 * 0.2 * 0.1) / 4
    first, second = math.log(0.2) - mean_log, math.log(0.3) - mean_log
    self.assertAlmostEqual(got.copying.pooled, (first + second) / 2, places=6)
    np.testing.assert_allclose(got.copying.visit_sums[:4], [first, 0, second, 0], rtol=1e-5)
    self.assertEqual(got.copying.visit_counts[:4].tolist(), [1, 0, 1, 0])
    first = math.log(0.1) - math.log(0.3**3 * 0.1) / 4
    second = math.log(0.1) - math.log(0.4**2 * 0.1**2) / 4
    self.assertAlmostEqual(got.teacher_copying.pooled, (first + second) / 2, places=6)

    persistence = got.own_walk.persistence
    self.assertAlmostEqual(persistence.pooled, 1 / 3, places=6)  # argmaxes 3, 1, 1, 0
    self.assertEqual(persistence.visit_sums[:4].tolist(), [0, 1, 0, 0])
    self.assertEqual(np.flatnonzero(persistence.distance_sums).tolist(), [2])
    self.assertEqual(persistence.distance_counts[:6].tolist(), [0, 0, 1, 0, 2, 0])
    self.assertEqual(got.own_walk.correlation_counts.tolist(), [3, 2, 1])
    # 1/4 . 1/3 for each of three children; 1/3 . 1/3 for each of three; 1/3 . 1/2 for the first and the last
    np.testing.assert_allclose(got.own_walk.chance.visit_sums[:4], [1 / 4, 1 / 3, 1 / 3, 0], rtol=1e-6)

  def test_correlation(self):
    """Of log-errors (1, 0, 0, -1), (0, 0, 1, -1) and (2, -2, 0, 0)."""
    errors = np.array([[1, 0, 0, -1], [0, 0, 1, -1], [2, -2, 0, 0]])
    p = np.array([[0.1, 0.2, 0.3, 0.4]] * 3)
    q = p * np.exp(errors)
    got = one_walk((q / q.sum(axis=1, keepdims=True)).tolist(), p.tolist(), [0, 0, 0], [1, 3, 5])
    expected = [(1 + 0) / math.sqrt((2 + 2) * (2 + 8)), 2 / math.sqrt(2 * 8), NAN]
    np.testing.assert_allclose(got.own_walk.correlation, expected, atol=1e-6)

  def test_a_teacher_that_gives_a_child_nothing(self):
    """Errors are NaN; persistence, chance and what concerns the student alone stand."""
    q, p = [[0.1, 0.2, 0.3, 0.4]] * 2, [self.UNIFORM, [0, 1 / 3, 1 / 3, 1 / 3]]
    got = one_walk(q, p, [1, 0], [1, 3])
    self.assertTrue(np.isnan(got.own_walk.correlation[0]) and np.isnan(got.teacher_copying.pooled))
    self.assertAlmostEqual(got.own_walk.persistence.pooled, 1)
    self.assertAlmostEqual(got.own_walk.chance.pooled, 1 / 4, places=6)
    self.assertAlmostEqual(got.copying.pooled, math.log(0.2) - math.log(0.4 * 0.3 * 0.2 * 0.1) / 4, places=6)

  def test_prompt_order(self):
    """Edges 1, 3 and 5 lead to the children of chains of 2 nodes; 5 comes first, then 1."""
    task, q = StarGraph(3, 2), jnp.array([[[[0.1, 0.2, 0.7]] * 3]])
    visits = Visits(jnp.log(q), -q, jnp.ones((1, 1, 3), bool), jnp.array([[[2, 1, -1]]]), jnp.arange(3)[None, None])
    graphs = Graph(jnp.arange(8)[None], jnp.array([[4, 5, 1, 0, 6, 3, 2]]))
    got = temporal_errors.in_prompt_order(task, visits, graphs)
    np.testing.assert_allclose(got.log_student, np.log([[[[0.7, 0.1, 0.2]] * 3]]), rtol=1e-6)
    np.testing.assert_allclose(got.log_teacher, [[[[-0.7, -0.1, -0.2]] * 3]], rtol=1e-6)
    self.assertEqual(got.child.tolist(), [[[0, 2, -1]]])

  def test_lags(self):
    with self.assertRaisesRegex(ValueError, "num_lags=0 is not allowed: must be at least 1"):
      temporal_errors.compare(MODEL_TASK, None, None, num_lags=0)


# Plain Python: a visit is (log q, log p, child, position), those of a walk a list, all walks a dict by (graph, walk).


def plain_visits(task: StarGraph, labels: list[int], goal_chain: int, walk: list[int], logits: np.ndarray) -> list:
  visits, kids = [], brute_force.children_of_root(task)
  for i, node in enumerate(walk[: task.max_steps - 1]):
    if node >= task.num_nodes:
      break
    if node == ROOT:
      at_r = [float(logits[i if task.goal_hidden else i + 1][labels[kid]]) for kid in kids]
      log_sum = math.log(sum(math.exp(x) for x in at_r))
      p = brute_force.teacher_distribution(task, goal_chain, walk[: i + 1])
      log_p = [math.log(p[kid] / sum(p[other] for other in kids)) for kid in kids]
      child = kids.index(walk[i + 1]) if i + 1 < len(walk) and walk[i + 1] in kids else -1
      visits.append(([x - log_sum for x in at_r], log_p, child, i))
  return visits


def argmax(values: list[float]) -> int:
  return values.index(max(values))


def plain_centred(values: list[float]) -> list[float]:
  return [x - sum(values) / len(values) for x in values]


def plain_chance(log_p: list[float], log_p_next: list[float]) -> float:
  tempered = [brute_force.temper(dict(enumerate(map(math.exp, log))), 0) for log in (log_p, log_p_next)]
  return sum(tempered[0][c] * tempered[1][c] for c in range(len(log_p)))


def plain_means(task: StarGraph, pairs: list[tuple]) -> dict:
  """Of pairs (walk, v, distance, value)."""
  by_visit, by_distance = np.zeros((2, task.max_steps - 3)), np.zeros((2, task.max_steps))
  by_walk: dict = {}
  for walk, v, distance, value in pairs:
    by_walk.setdefault(walk, []).append(value)
    by_visit[:, v] += value, 1
    if distance > 0:
      by_distance[:, distance] += value, 1
  return dict(
    pooled=sum(pair[-1] for pair in pairs) / len(pairs),
    per_walk=sum(sum(values) / len(values) for values in by_walk.values()) / len(by_walk),
    visit_sums=by_visit[0], visit_counts=by_visit[1], distance_sums=by_distance[0], distance_counts=by_distance[1],
  )  # fmt: skip


def plain_pairs(first: dict, second: dict, lag: int):
  for walk, visits in first.items():
    for v, (a, b) in enumerate(zip(visits, second[walk][lag:], strict=False)):
      yield walk, v, a, b


def plain_resemblance(task: StarGraph, first: dict, second: dict) -> dict:
  agree, chance, rho = [], [], []
  for walk, v, a, b in plain_pairs(first, second, 1):
    agree.append((walk, v, b[3] - a[3], float(argmax(a[0]) == argmax(b[0]))))
    chance.append((walk, v, b[3] - a[3], plain_chance(a[1], b[1])))
  for lag in range(1, NUM_LAGS + 1):
    products, squares, later_squares = 0.0, 0.0, 0.0
    for _, _, a, b in plain_pairs(first, second, lag):
      x, y = (plain_centred([q - p for q, p in zip(*visit[:2], strict=True)]) for visit in (a, b))
      products += sum(s * t for s, t in zip(x, y, strict=True))
      squares, later_squares = squares + sum(s * s for s in x), later_squares + sum(t * t for t in y)
    rho.append(products / math.sqrt(squares * later_squares))
  counts = [len(list(plain_pairs(first, second, lag))) for lag in range(1, NUM_LAGS + 1)]
  persistence, expected = plain_means(task, agree), plain_means(task, chance)
  return dict(persistence=persistence, chance=expected, correlation=rho, correlation_counts=counts)


def plain_copying(task: StarGraph, visits: dict, which: int) -> dict:
  """Of log q (`which` 0) or log p (1)."""
  pairs = plain_pairs(visits, visits, 1)
  values = [(walk, v, b[3] - a[3], plain_centred(b[which])[a[2]]) for walk, v, a, b in pairs if a[2] >= 0]
  return plain_means(task, values)


def plain_measures(task: StarGraph, visits: dict, edge_orders: list[list[int]]) -> dict:
  num_graphs, num_walks = max(visits)[0] + 1, max(visits)[1] + 1
  orders = [prompt_order(task, edges) for edges in edge_orders]
  sort = lambda g, values: [values[c] for c in orders[g]]
  aligned = {(g, r): [(sort(g, x[0]), sort(g, x[1]), *x[2:]) for x in walk] for (g, r), walk in visits.items()}
  other_graphs = {(g, r): aligned[(g + 1) % num_graphs, r] for g, r in visits}
  other_walks = {(g, r): visits[g, (r + 1) % num_walks] for g, r in visits}
  return dict(
    own_walk=plain_resemblance(task, visits, visits),
    other_graphs=plain_resemblance(task, aligned, other_graphs),
    other_walks=plain_resemblance(task, visits, other_walks),
    copying=plain_copying(task, visits, 0),
    teacher_copying=plain_copying(task, visits, 1),
  )


NUM_GRAPHS, NUM_WALKS = 100, 10
WITH_MARGIN = StarGraph(3, 2, max_steps=24, explore_prob=0.8, visited_margin=0.15, spare_labels=1)
HIDDEN = StarGraph(3, 2, max_steps=24, explore_prob=0.7, goal_margin=0.1, spare_labels=1, goal_hidden=True)


def sample_walks(task: StarGraph, goals: list[int], rng: random.Random) -> dict:
  """Teacher's walks; a quarter have a node replaced, perhaps by one off the graph."""
  walks = {}
  for g, r in itertools.product(range(NUM_GRAPHS), range(NUM_WALKS)):
    walk = brute_force.sample_walk(task, goals[g], rng)
    if rng.random() < 0.25:
      walk[rng.randrange(1, len(walk))] = rng.randrange(task.num_nodes + 1)
      goal = brute_force.goal_of(task, goals[g])
      walk = walk[: walk.index(goal) + 1] if goal in walk else walk
    walks[g, r] = walk
  return walks


def random_logits(task: StarGraph, rng: np.random.Generator) -> np.ndarray:
  """[G, R, L, V], alike within a walk and within a graph."""
  sizes = (NUM_GRAPHS, NUM_WALKS, teacher.stream_length(task), task.vocabulary_size)
  shapes = (sizes, sizes[:2] + (1, sizes[3]), (sizes[0], 1, 1, sizes[3]))
  return sum(rng.normal(size=shape) for shape in shapes).astype(np.float32)


@functools.cache
def jitted_visits(task: StarGraph):
  return jax.jit(functools.partial(temporal_errors.visits_of_logits, task))


def padded(task: StarGraph, walks: dict) -> jax.Array:
  """[G, R, W]."""
  nodes = np.full((NUM_GRAPHS, NUM_WALKS, task.max_steps), PADDING)
  for place, walk in walks.items():
    nodes[place][: len(walk)] = walk
  return jnp.array(nodes)


def visits_of(task: StarGraph, graphs: Graph, goals: list[int], walks: dict, logits: np.ndarray) -> Visits:
  problems = Problems(graphs, jnp.broadcast_to(jnp.array(goals)[:, None], (NUM_GRAPHS, NUM_WALKS)))
  probabilities = teacher.teacher_probabilities(task)
  return jitted_visits(task)(probabilities, problems, padded(task, walks), jnp.array(logits))


class BruteForceTest(parameterized.TestCase):
  def assert_same(self, got, want, name: str = ""):
    if isinstance(want, dict):
      self.assertEqual(set(got._fields), set(want))
      for key, value in want.items():
        self.assert_same(getattr(got, key), value, f"{name}.{key}")
    else:
      np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=name)

  @parameterized.parameters(WITH_MARGIN, HIDDEN)
  def test_thousand_walks(self, task):
    rng, plain_rng = np.random.default_rng(0), random.Random(0)
    graphs, logits = random_graphs(task, rng, NUM_GRAPHS), random_logits(task, rng)
    goals = [plain_rng.randrange(task.num_chains) for _ in range(NUM_GRAPHS)]
    walks = sample_walks(task, goals, plain_rng)
    labels = graphs.labels.tolist()
    plain = {
      (g, r): plain_visits(task, labels[g], goals[g], walk, logits[g, r]) for (g, r), walk in walks.items()
    }  # fmt: skip
    self.assertTrue(any(task.num_nodes in walk for walk in walks.values()))

    visits = visits_of(task, graphs, goals, walks, logits)
    host = jax.device_get(visits)
    for place, want in plain.items():
      self.assertEqual(host.exists[place].tolist(), [v < len(want) for v in range(temporal_errors.max_visits(task))])
      for v, (log_q, log_p, child, position) in enumerate(want):
        np.testing.assert_allclose(host.log_student[place][v], log_q, atol=1e-5)
        np.testing.assert_allclose(host.log_teacher[place][v], log_p, atol=1e-5)
        self.assertEqual((host.child[place][v], host.position[place][v]), (child, position))

    got = jax.device_get(jitted_measures(task)(visits, graphs))
    self.assert_same(got, plain_measures(task, plain, graphs.edge_order.tolist()))
    self.assertGreater(got.own_walk.correlation[0], got.other_walks.correlation[0] + 0.1)  # the measures differ
    self.assertGreater(got.other_walks.correlation[0], got.other_graphs.correlation[0] + 0.1)

  def test_visits_of_odd_walks(self):
    """A label off the graph hides what follows; the last node is not asked; r to r counts; ends are no child."""
    task, rng = WITH_MARGIN, np.random.default_rng(1)
    off, cut = task.num_nodes, task.max_steps
    walks = {
      (0, 0): [0, 1, 0, 1, off, 0, 1, 2, 0, 1],
      (0, 1): [0, off, 1, 2, 0, 1],
      (1, 0): [0, 1] * (cut // 2),
      (1, 1): [0] + [1] * (cut - 1),
      (2, 0): [0, 1, 4, 5, 0, 1, 3, 0, 1],
      (2, 1): [0, 5, 1, 5, 2, 1],
    }
    visits = visits_of(task, random_graphs(task, rng, NUM_GRAPHS), [0] * NUM_GRAPHS, walks, random_logits(task, rng))
    found = {place: np.asarray(visits.position[place])[visits.exists[place]].tolist() for place in walks}
    children = {place: np.asarray(visits.child[place])[visits.exists[place]].tolist() for place in walks}
    self.assertEqual(found[0, 0], [1, 3])
    self.assertEqual(children[0, 0], [-1, -1])
    self.assertEqual(found[0, 1], [])
    self.assertEqual(found[1, 0], list(range(1, cut - 1, 2)))
    self.assertEqual(found[1, 1], list(range(1, cut - 1)))
    self.assertEqual((found[2, 0], children[2, 0]), ([1, 5, 8], [1, -1, -1]))
    self.assertEqual((found[2, 1], children[2, 1]), ([2, 5], [-1, -1]))
    self.assertEqual(int(visits.exists.sum()), sum(map(len, found.values())))


class CheckTest(parameterized.TestCase):
  @parameterized.parameters(
    (dict(), "task.explore_prob=0.0 is not allowed: must be above 0"),
    (dict(explore_prob=1.0, visited_margin=0.25), "task.visited_margin=0.25 is not allowed: must be below 0.25"),
    (dict(explore_prob=0.5, goal_margin=0.8), "task.goal_margin=0.8 is not allowed: must be below 0.8"),
  )
  def test_errors(self, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      temporal_errors.check_errors_defined(StarGraph(5, 2, **settings))

  @parameterized.product(n=(1, 2, 3, 5), explore_prob=(0.0, 0.4, 1.0))
  def test_raises_where_brute_force_finds_a_zero(self, n, explore_prob):
    margins = [(m, 0.0) for m in (0.0, 0.1, 0.24, 0.25, 0.3, 0.49, 0.5, 0.6, 0.99, 1.0, 3.0)]
    margins += [(0.0, m) for m in (0.1, 0.3, 0.5, 2 / 3, 0.79, 0.8) if m <= 1 - 1 / n]
    for visited_margin, goal_margin in margins:
      task = StarGraph(n, 1, explore_prob=explore_prob, visited_margin=visited_margin, goal_margin=goal_margin)
      kids = brute_force.children_of_root(task)
      walks = [[0, 1] + [x for kid in kids[n - k :] for x in (kid, 0, 1)] for k in range(n + 1)]
      least = min(brute_force.teacher_distribution(task, 0, walk)[kid] for walk in walks for kid in kids)
      try:
        temporal_errors.check_errors_defined(task)
        raised = False
      except ValueError:
        raised = True
      self.assertEqual(raised, least < 1e-9, f"{task}: {least}")


# A student, whose own decoding says what its logits were.

STUDENT = Transformer(num_layers=1, num_heads=2, width=16)
STUDENT_GRAPHS, STUDENT_WALKS = 24, 3


def recorder(task: StarGraph) -> LogitsProcessor:
  """Keeps the logits after every node, [W - 1, G, R, V], and changes nothing."""
  shape = (task.max_steps - 1, STUDENT_GRAPHS, STUDENT_WALKS, task.vocabulary_size)

  def apply(state, logits, labels):
    step, kept = state
    return (step + 1, kept.at[step].set(logits)), logits

  return LogitsProcessor(lambda problems: (jnp.int32(0), jnp.zeros(shape)), apply)


class StudentTest(parameterized.TestCase):
  @parameterized.parameters(("edge", False), ("flat", True))
  def test_visits_are_what_the_rollout_saw(self, encoding_name, goal_hidden):
    settings = dict(encoding=encoding_name, goal_hidden=goal_hidden, explore_prob=1.0, spare_labels=1)
    task = StarGraph(3, 2, max_steps=16, **settings)
    params, record = random_params(STUDENT, task), recorder(task)

    @jax.jit
    def walk(params, problems, key):
      rollout = decoding.begin(task, STUDENT, params, problems, key, [record])
      step = functools.partial(decoding.advance, num_steps=task.max_steps - 1, processors=[record])
      return step(task, STUDENT, params, problems, jnp.ones((1, STUDENT_WALKS)), rollout)

    @jax.jit
    def read(params, problems, nodes):
      probabilities = teacher.teacher_probabilities(task)
      visits = temporal_errors.read_visits(task, STUDENT, params, probabilities, problems, nodes)
      return visits, temporal_errors.measure_visits(task, visits, problems.graphs, num_lags=1)

    rng = np.random.default_rng(0)
    goals = np.broadcast_to(rng.integers(task.num_chains, size=(STUDENT_GRAPHS, 1)), (STUDENT_GRAPHS, STUDENT_WALKS))
    problems = Problems(random_graphs(task, rng, STUDENT_GRAPHS), jnp.array(goals))
    rollout = walk(params, problems, jax.random.key(0))
    visits, measures = jax.device_get(read(params, problems, rollout.nodes))
    logits, labels = np.asarray(rollout.processors[0][1], np.float64), np.asarray(problems.graphs.labels)
    kids = brute_force.children_of_root(task)
    self.assertGreater(visits.exists.sum(), 20)
    for g, r, v in zip(*np.nonzero(visits.exists), strict=True):
      at_r = np.exp(logits[visits.position[g, r, v], g, r][labels[g, kids]])
      np.testing.assert_allclose(visits.log_student[g, r, v], np.log(at_r / at_r.sum()), atol=1e-4)
    several = visits.exists[..., 1]
    shift = np.abs(visits.log_student[..., 0, :] - visits.log_student[..., 1, :])[several].max(axis=-1)
    self.assertGreater(np.median(shift), 1e-2)  # visits differ, so that a shift would show
    nodes = np.asarray(rollout.nodes)
    self.assertTrue((nodes == task.num_nodes).any())
    self.assertEqual(measures.own_walk.persistence.visit_counts.sum(), visits.exists[..., 1:].sum())
    for value in (measures.own_walk, measures.other_graphs, measures.other_walks, measures.copying):
      self.assertTrue(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(value)))


if __name__ == "__main__":
  absltest.main()
