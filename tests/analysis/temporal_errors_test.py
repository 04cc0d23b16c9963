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

from loopjax.analysis import temporal_errors
from loopjax.analysis.temporal_errors import Resemblance, TemporalErrors
from loopjax.analysis.visits import Visits, check_errors_defined, in_prompt_order, max_visits, visits_of_logits
from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.star_graph import rollouts, student_functions, teacher
from loopjax.star_graph.graph import ROOT, Graph, StarGraph
from loopjax.star_graph.rollouts import Asked, LegalMoves
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.teacher import PADDING
from tests.models.students import random_params
from tests.star_graph import brute_force

TOLERANCE = 4  # standard errors
NUM_LAGS = 3
REPLICATES = 24
NAN = float("nan")


# Models of errors with known answers: no student, no walks; errors drawn in NumPy.

MODEL_TASK = StarGraph(num_chains=4, chain_length=2, max_steps=14, explore_prob=1.0)
G, R, K, C = 16, 4, 12, 4


@functools.cache
def jitted_measures(task: StarGraph, num_lags: int = NUM_LAGS):
  return jax.jit(functools.partial(temporal_errors.measure_visits, task, num_lags=num_lags))


def next_walks(visits: Visits) -> Visits:
  """Other walks for null (ii): the next on the same graph."""
  return jax.tree.map(lambda field: jnp.roll(field, -1, axis=1), visits)


def random_graphs(task: StarGraph, rng: np.random.Generator, num_graphs: int = G) -> Graph:
  labels = [rng.permutation(task.vocabulary_size)[: task.num_nodes] for _ in range(num_graphs)]
  orders = [rng.permutation(task.num_edges) for _ in range(num_graphs)]
  return Graph(jnp.array(np.stack(labels)), jnp.array(np.stack(orders)))


def prompt_order(task: StarGraph, edge_order) -> list[int]:
  """The children as the prompt lists them."""
  kids = brute_force.children_of_root(task)
  return [kids.index(edge + 1) for edge in edge_order if edge + 1 in kids]


def visits_with(errors: np.ndarray, rng: np.random.Generator) -> Visits:
  """Visits of a uniform teacher with errors [G, R, K, C], any G and R; walks of 2..K visits, NaN after their ends."""
  shape = errors.shape[:-1]
  exists = np.arange(K) < rng.integers(2, K + 1, shape[:-1])[..., None]
  log_student = np.where(exists[..., None], np.asarray(jax.nn.log_softmax(jnp.array(errors))), np.nan)
  return Visits(
    log_student=jnp.array(log_student, jnp.float32),
    log_teacher=jnp.full(errors.shape, -jnp.log(C)),
    exists=jnp.array(exists),
    top=jnp.array(np.argmax(errors, axis=-1)),
    child=jnp.array(rng.integers(-1, C, shape)),
    position=jnp.broadcast_to(jnp.arange(K), shape),
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
  visits = visits_with(errors, rng)
  return jax.device_get(jitted_measures(MODEL_TASK)(visits, next_walks(visits), said))


@functools.cache
def replicates(model, shuffled: bool = False) -> TemporalErrors:
  """Fields [replicate, ...]."""
  runs = [measure_model(model, seed, shuffled=shuffled) for seed in range(REPLICATES)]
  return jax.tree.map(lambda *fields: np.stack(fields), *runs)


class ModelsTest(parameterized.TestCase):
  def assert_no_pairs(self, got: Resemblance):
    self.assertTrue(np.isnan([got.persistence.pooled, got.correlation, *got.correlation_by_lag]).all())
    for counts in (got.num_pairs, got.num_pairs_by_lag, got.persistence.visit_counts, got.persistence.distance_counts):
      np.testing.assert_array_equal(counts, 0)

  def assert_mean(self, values: np.ndarray, expected, tolerance: float = TOLERANCE):
    """Values [replicate, ...] have the mean `expected` within standard errors taken from the replicates."""
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
    deviation = np.abs(np.mean(values, axis=0) - expected)
    self.assertTrue(np.all(deviation <= tolerance * error + 1e-6), f"{deviation} off, standard errors {error}")
    self.assertLess(np.max(error), 0.06)

  def assert_resembles(self, got: Resemblance, persistence: float, correlation):
    self.assert_mean(got.persistence.pooled, persistence)
    self.assert_mean(got.correlation, correlation)
    self.assert_mean(got.correlation_by_lag, correlation)

  def test_independent_errors(self):
    got = replicates(independent)
    for pairs in got[:5]:
      self.assert_resembles(pairs, 1 / C, 0)
    self.assert_mean(got.copying.pooled, 0)

  def test_a_frozen_preference(self):
    got = replicates(frozen)
    for own in (got.own_walk, got.own_walk_matched, got.own_walk_matched_graphs):
      self.assert_resembles(own, 1, 1)
    self.assert_resembles(got.other_graphs, 1 / C, 0)
    self.assert_resembles(got.other_walks, 1 / C, 0)

  def test_a_fixed_graph_has_no_other(self):
    rng = np.random.default_rng(0)
    visits, graphs = visits_with(independent(rng, None), rng), random_graphs(MODEL_TASK, rng)
    fixed, free = (
      jax.device_get(jitted_measures(task)(visits, next_walks(visits), graphs))
      for task in (dataclasses.replace(MODEL_TASK, graph_fixed=True), MODEL_TASK)
    )
    for pairs in (fixed.other_graphs, fixed.own_walk_matched_graphs):
      self.assert_no_pairs(pairs)
    unchanged = [measures._replace(other_graphs=None, own_walk_matched_graphs=None) for measures in (fixed, free)]
    jax.tree.map(np.testing.assert_array_equal, *unchanged)

  def test_autoregressive_errors(self):
    """Correlation at lag k is a^k."""
    got = replicates(autoregressive)
    self.assert_mean(got.own_walk.correlation, 0.7, tolerance=3)
    self.assert_mean(got.own_walk.correlation_by_lag, 0.7 ** np.arange(1, NUM_LAGS + 1), tolerance=3)
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
    for pairs in got[:5]:
      self.assert_resembles(pairs, 1, 1)
    self.assert_resembles(replicates(by_prompt_order, shuffled=True).other_graphs, 1 / C, 0)

  def test_the_only_walk_has_no_nulls(self):
    rng = np.random.default_rng(0)
    visits = jax.tree.map(lambda field: field[:1, :1], visits_with(frozen(rng, None), rng))
    got = jitted_measures(MODEL_TASK, num_lags=1)(visits, next_walks(visits), random_graphs(MODEL_TASK, rng, 1))
    self.assertAlmostEqual(float(got.own_walk.persistence.pooled), 1)
    for pairs in got[1:5]:
      self.assert_no_pairs(pairs)


# Worlds of known truth in which the errors themselves decide which walks last.

NUM_WORLD_GRAPHS = 192


def selected_walks(errors: np.ndarray, temperature: float, rng: np.random.Generator) -> Visits:
  """Walks of a student with these errors on a uniform teacher: each goes on until it enters the goal's child, 0."""
  child = np.argmax(errors + temperature * rng.gumbel(size=errors.shape), axis=-1)
  is_goal = child == 0
  visits = visits_with(errors, rng)
  return visits._replace(
    log_student=jax.nn.log_softmax(jnp.array(errors, jnp.float32)),
    exists=jnp.array(np.cumsum(is_goal, axis=-1) - is_goal == 0),
    child=jnp.array(child),
  )


def world(seed: int, temperature: float, memory: float) -> tuple[Visits, Visits]:
  """Walks of the student and of a teacher on the same graphs; an error is a preference, weak or strong, plus noise.

  The preference is the graph's. The noise is independent from walk to walk, and from visit to visit but for its memory.
  Greedy walks are one a graph.
  """
  rng = np.random.default_rng(seed)
  shape = (NUM_WORLD_GRAPHS, R, K, C)
  preference = rng.choice([0.3, 2.0], (shape[0], 1, 1, 1)) * rng.normal(size=(shape[0], 1, 1, C))

  def errors() -> np.ndarray:
    noise = rng.normal(size=shape)
    for v in range(1, K):
      noise[:, :, v] = memory * noise[:, :, v - 1] + math.sqrt(1 - memory**2) * noise[:, :, v]
    return preference + noise

  own = errors()
  if temperature == 0:
    own = np.broadcast_to(own[:, :1], shape)
  return selected_walks(own, temperature, rng), selected_walks(errors(), 1e6, rng)  # so hot that errors do not count


def pairs_of_different_sets(visits: Visits, other: Visits) -> jax.Array:
  """rho(1) of all pairs of one walk minus that of all pairs of two walks: the estimator that is not to be used."""
  rho = [
    temporal_errors.compare(MODEL_TASK, visits, second, exists, num_lags=1).correlation
    for second, exists in (
      (visits, visits.exists), (other, jnp.roll(visits.exists, 1, axis=-1).at[..., 0].set(False) & other.exists)
    )
  ]  # fmt: skip
  return rho[0] - rho[1]


@functools.cache
def worlds(temperature: float, memory: float) -> tuple[TemporalErrors, np.ndarray]:
  """The measures, and the difference over different sets, fields [replicate, ...]."""
  graphs = random_graphs(MODEL_TASK, np.random.default_rng(0), NUM_WORLD_GRAPHS)
  drawn = [world(seed, temperature, memory) for seed in range(12)]
  measure, unmatched = jitted_measures(MODEL_TASK), jax.jit(pairs_of_different_sets)
  got = [jax.device_get(measure(own, taught, graphs)) for own, taught in drawn]
  different = [float(unmatched(own, next_walks(own) if temperature else taught)) for own, taught in drawn]
  return jax.tree.map(lambda *fields: np.stack(fields), *got), np.array(different)


class SelectionTest(parameterized.TestCase):
  """What the student repeats of its own past is rho of one walk minus rho of two walks on one graph."""

  def assert_near(self, values: np.ndarray, expected: float, within: float):
    low, high = np.mean(values, axis=0) + np.array([-1, 1])[:, None] * 3 * np.std(values, axis=0) / np.sqrt(len(values))
    self.assertTrue(np.all((low <= expected) & (expected <= high)), f"{low} to {high}, not {expected}")
    self.assertLess(np.max(high - low), within)

  @parameterized.parameters(0.0, 1.0)
  def test_a_standing_preference_without_memory(self, temperature):
    got, different = worlds(temperature, 0.0)
    own, null = got.own_walk_matched, got.other_walks
    self.assert_near(own.correlation[:, None] - null.correlation[:, None], 0, within=0.03)
    self.assert_near(own.correlation_by_lag - null.correlation_by_lag, 0, within=0.04)
    self.assert_near(np.diff(got.own_walk.correlation_by_lag), 0, within=0.02)  # nor has a curve a slope
    self.assertGreater(np.abs(np.mean(different)), 0.02)

  @parameterized.parameters(0.0, 1.0)
  def test_memory_within_the_walk(self, temperature):
    got, _ = worlds(temperature, 0.7)
    own, null = got.own_walk_matched, got.other_walks
    by_lag = np.mean(own.correlation_by_lag - null.correlation_by_lag, axis=0)
    self.assertGreater(np.mean(own.correlation - null.correlation), 0.15)
    np.testing.assert_allclose(by_lag[1:] / by_lag[:-1], 0.7, atol=0.05)


def one_walk(q: list[list[float]], p: list[list[float]], child: list[int], position: list[int]) -> TemporalErrors:
  """The measures of a single walk, in the shape of the models above."""
  m = len(q)
  log_student, log_teacher = np.full((2, G, R, K, C), np.nan, np.float32)
  exists, (children, positions) = np.zeros((G, R, K), bool), np.zeros((2, G, R, K), int)
  with np.errstate(divide="ignore"):
    log_student[3, 1, :m], log_teacher[3, 1, :m] = np.log(q), np.log(p)
  exists[3, 1, :m], children[3, 1, :m], positions[3, 1, :m] = True, child, position
  top = np.argmax(log_student, axis=-1)
  visits = Visits(*(jnp.array(x) for x in (log_student, log_teacher, exists, top, children, positions)))
  graphs = random_graphs(MODEL_TASK, np.random.default_rng(0))
  return jax.device_get(jitted_measures(MODEL_TASK, num_lags=2)(visits, visits, graphs))


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
    self.assertEqual((got.own_walk.num_pairs, got.own_walk.num_pairs_by_lag.tolist()), (3, [2, 2]))
    self.assertEqual(got.other_walks.num_pairs, 0)  # this walk has no other: beside it stands itself

  def test_correlation(self):
    """Of log-errors (1, 0, 0, -1), (0, 0, 1, -1) and (2, -2, 0, 0); by lag the third alone is the later visit."""
    errors = np.array([[1, 0, 0, -1], [0, 0, 1, -1], [2, -2, 0, 0]])
    p = np.array([[0.1, 0.2, 0.3, 0.4]] * 3)
    q = p * np.exp(errors)
    got = one_walk((q / q.sum(axis=1, keepdims=True)).tolist(), p.tolist(), [0, 0, 0], [1, 3, 5])
    self.assertAlmostEqual(got.own_walk.correlation, (1 + 0) / math.sqrt((2 + 2) * (2 + 8)), places=6)
    np.testing.assert_allclose(got.own_walk.correlation_by_lag, [0, 2 / math.sqrt(2 * 8)], atol=1e-6)

  def test_a_teacher_that_gives_a_child_nothing(self):
    """Errors are NaN; persistence and what concerns the student alone stand."""
    q, p = [[0.1, 0.2, 0.3, 0.4]] * 2, [self.UNIFORM, [0, 1 / 3, 1 / 3, 1 / 3]]
    got = one_walk(q, p, [1, 0], [1, 3])
    self.assertTrue(np.isnan(got.own_walk.correlation) and np.isnan(got.teacher_copying.pooled))
    self.assertAlmostEqual(got.own_walk.persistence.pooled, 1)
    self.assertAlmostEqual(got.copying.pooled, math.log(0.2) - math.log(0.4 * 0.3 * 0.2 * 0.1) / 4, places=6)

  def test_prompt_order(self):
    """Edges 1, 3 and 5 lead to the children of chains of 2 nodes; 5 comes first, then 1."""
    task, q = StarGraph(3, 2), jnp.array([[[[0.1, 0.2, 0.7]] * 3]])
    top, child = jnp.array([[[2, 1, 0]], [[2, 1, -1]]])[:, None]
    visits = Visits(jnp.log(q), -q, jnp.ones((1, 1, 3), bool), top, child, jnp.arange(3)[None, None])
    graphs = Graph(jnp.arange(8)[None], jnp.array([[4, 5, 1, 0, 6, 3, 2]]))
    got = in_prompt_order(task, visits, graphs)
    np.testing.assert_allclose(got.log_student, np.log([[[[0.7, 0.1, 0.2]] * 3]]), rtol=1e-6)
    np.testing.assert_allclose(got.log_teacher, [[[[-0.7, -0.1, -0.2]] * 3]], rtol=1e-6)
    self.assertEqual((got.top.tolist(), got.child.tolist()), ([[[0, 2, 1]]], [[[0, 2, -1]]]))

  def test_one_walk_so_far(self):
    """The second walk of each pair goes another way at its second visit: another child, or as deep by a reset."""
    exists, zeros = jnp.ones((1, 3, 3), bool), jnp.zeros((1, 3, 3, 4))
    child, position = jnp.array([[0, 1, 2]] * 3)[None], jnp.array([[1, 5, 9]] * 3)[None]
    first = Visits(zeros, zeros, exists, child, child, position)
    second = first._replace(child=child.at[0, 0, 1].set(3).at[0, 1, 2].set(0), position=position.at[0, 2, 2].set(8))
    got = temporal_errors.one_walk_so_far(first, second)
    self.assertEqual(got.tolist(), [[[True, True, False], [True, True, True], [True, True, False]]])

  def test_lags(self):
    with self.assertRaisesRegex(ValueError, "num_lags=0 is not allowed: must be at least 1"):
      temporal_errors.compare(MODEL_TASK, None, None, None, num_lags=0)


# Plain Python: a visit is (log q, log p, child, position), those of a walk a list, all walks a dict by (graph, walk).


def plain_visits(task: StarGraph, goal_chain: int, walk: list[int], child_logits: np.ndarray) -> list:
  visits, kids = [], brute_force.children_of_root(task)
  for i, node in enumerate(walk[:-1]):
    if node == ROOT:
      at_r = child_logits[i].tolist()
      log_sum = math.log(sum(math.exp(x) for x in at_r))
      p = brute_force.teacher_distribution(task, goal_chain, walk[: i + 1])
      log_p = [math.log(p[kid] / sum(p[other] for other in kids)) for kid in kids]
      child = kids.index(walk[i + 1]) if walk[i + 1] in kids else -1
      visits.append(([x - log_sum for x in at_r], log_p, child, i))
  return visits


def argmax(values: list[float]) -> int:
  return values.index(max(values))


def plain_centred(values: list[float]) -> list[float]:
  return [x - sum(values) / len(values) for x in values]


def plain_means(task: StarGraph, pairs: list[tuple]) -> dict:
  """Of pairs (walk, v, distance, value)."""
  by_visit, by_distance = np.zeros((2, (task.max_steps - 1) // 2 - 1)), np.zeros((2, task.max_steps))
  for _, v, distance, value in pairs:
    by_visit[:, v] += value, 1
    if distance > 0:
      by_distance[:, distance] += value, 1
  return dict(
    pooled=sum(pair[-1] for pair in pairs) / len(pairs),
    visit_sums=by_visit[0], visit_counts=by_visit[1], distance_sums=by_distance[0], distance_counts=by_distance[1],
  )  # fmt: skip


def plain_pairs(first: dict, second: dict, lag: int, is_pair=lambda walk, w: True, least: int = 0):
  """(walk, v, visit v of the first, visit v + lag of the second) where the walk in `first` lasts so long as well."""
  for walk, visits in first.items():
    for v in range(len(visits) - lag):
      w = v + lag
      if w >= least and w < len(second[walk]) and is_pair(walk, w):
        yield walk, v, visits[v], second[walk][w]


def plain_rho(pairs: list[tuple]) -> float:
  products, squares, later_squares = 0.0, 0.0, 0.0
  for _, _, a, b in pairs:
    x, y = (plain_centred([q - p for q, p in zip(*visit[:2], strict=True)]) for visit in (a, b))
    products += sum(s * t for s, t in zip(x, y, strict=True))
    squares, later_squares = squares + sum(s * s for s in x), later_squares + sum(t * t for t in y)
  return products / math.sqrt(squares * later_squares)


def plain_resemblance(task: StarGraph, first: dict, second: dict, is_pair) -> dict:
  pairs = list(plain_pairs(first, second, 1, is_pair))
  lags = [list(plain_pairs(first, second, lag, is_pair, least=NUM_LAGS)) for lag in range(1, NUM_LAGS + 1)]
  agree = [(walk, v, b[3] - a[3], float(argmax(a[0]) == argmax(b[0]))) for walk, v, a, b in pairs]
  return dict(
    persistence=plain_means(task, agree), correlation=plain_rho(pairs), num_pairs=len(pairs),
    correlation_by_lag=[plain_rho(of_lag) for of_lag in lags], num_pairs_by_lag=[len(of_lag) for of_lag in lags],
  )  # fmt: skip


def plain_copying(task: StarGraph, visits: dict, which: int) -> dict:
  """Of log q (`which` 0) or log p (1)."""
  pairs = plain_pairs(visits, visits, 1)
  values = [(walk, v, b[3] - a[3], plain_centred(b[which])[a[2]]) for walk, v, a, b in pairs if a[2] >= 0]
  return plain_means(task, values)


def plain_measures(task: StarGraph, walks: dict, visits: dict, edge_orders: list[list[int]]) -> dict:
  num_graphs, num_walks = max(visits)[0] + 1, max(visits)[1] + 1
  orders = [prompt_order(task, edges) for edges in edge_orders]
  sort = lambda g, values: [values[c] for c in orders[g]]
  aligned = {(g, r): [(sort(g, x[0]), sort(g, x[1]), *x[2:]) for x in walk] for (g, r), walk in visits.items()}
  other_graphs = {(g, r): aligned[(g + 1) % num_graphs, r] for g, r in visits}
  beside = {(g, r): (g, (r + 1) % num_walks) for g, r in visits}
  other_walks = {place: visits[beside[place]] for place in visits}

  def has_other_walk(place, w):
    end = visits[place][w][3] + 1
    return w < len(other_walks[place]) and walks[place][:end] != walks[beside[place]][:end]

  has_other_graph = lambda place, w: w < len(other_graphs[place])
  return dict(
    own_walk=plain_resemblance(task, visits, visits, lambda place, w: True),
    own_walk_matched=plain_resemblance(task, visits, visits, has_other_walk),
    other_walks=plain_resemblance(task, visits, other_walks, has_other_walk),
    own_walk_matched_graphs=plain_resemblance(task, visits, visits, has_other_graph),
    other_graphs=plain_resemblance(task, aligned, other_graphs, has_other_graph),
    copying=plain_copying(task, visits, 0),
    teacher_copying=plain_copying(task, visits, 1),
  )


NUM_GRAPHS, NUM_WALKS = 100, 10
WITH_MARGIN = StarGraph(3, 2, max_steps=24, explore_prob=0.8, visited_margin=0.15, spare_labels=1)
WITH_RESETS = dataclasses.replace(WITH_MARGIN, reset_prob=0.2)
HIDDEN = StarGraph(3, 2, max_steps=24, explore_prob=0.7, goal_margin=0.1, spare_labels=1, goal_hidden=True)


def sample_walks(task: StarGraph, goals: list[int], rng: random.Random) -> dict:
  """Teacher's walks; a quarter end in an invalid move, perhaps to a label off the graph."""
  walks = {}
  for g, r in itertools.product(range(NUM_GRAPHS), range(NUM_WALKS)):
    walk = brute_force.sample_walk(task, goals[g], rng)
    if rng.random() < 0.25:
      end = rng.randrange(1, len(walk))
      valid = brute_force.valid_successors(task, walk[end - 1])
      walk[end:] = [rng.choice([node for node in range(task.num_nodes + 1) if node not in valid])]
    walks[g, r] = walk
  return walks


def random_logits(task: StarGraph, rng: np.random.Generator) -> np.ndarray:
  """[G, R, W - 1, C], alike within a walk and within a graph."""
  sizes = (NUM_GRAPHS, NUM_WALKS, task.max_steps - 1, task.num_chains)
  shapes = (sizes, sizes[:2] + (1, sizes[3]), (sizes[0], 1, 1, sizes[3]))
  return sum(rng.normal(size=shape) for shape in shapes).astype(np.float32)


@functools.cache
def jitted_visits(task: StarGraph):
  return jax.jit(functools.partial(visits_of_logits, task))


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

  @parameterized.parameters(WITH_RESETS, HIDDEN)
  def test_thousand_walks(self, task):
    rng, plain_rng = np.random.default_rng(0), random.Random(0)
    graphs, logits = random_graphs(task, rng, NUM_GRAPHS), random_logits(task, rng)
    goals = [plain_rng.randrange(task.num_chains) for _ in range(NUM_GRAPHS)]
    walks = sample_walks(task, goals, plain_rng)
    plain = {(g, r): plain_visits(task, goals[g], walk, logits[g, r]) for (g, r), walk in walks.items()}
    self.assertTrue(any(task.num_nodes in walk for walk in walks.values()))

    visits = visits_of(task, graphs, goals, walks, logits)
    host = jax.device_get(visits)
    for place, want in plain.items():
      self.assertEqual(host.exists[place].tolist(), [v < len(want) for v in range(max_visits(task))])
      for v, (log_q, log_p, child, position) in enumerate(want):
        np.testing.assert_allclose(host.log_student[place][v], log_q, atol=1e-5)
        np.testing.assert_allclose(host.log_teacher[place][v], log_p, atol=1e-5)
        self.assertEqual((host.child[place][v], host.position[place][v]), (child, position))
        self.assertEqual(host.top[place][v], argmax(log_q))

    got = jax.device_get(jitted_measures(task)(visits, next_walks(visits), graphs))
    self.assert_same(got, plain_measures(task, walks, plain, graphs.edge_order.tolist()))
    own, matched, null, _, other_graphs = (pairs.correlation for pairs in got[:5])
    self.assertTrue(own != matched > null + 0.1 > other_graphs + 0.2)  # the measures differ
    self.assertLess(got.other_walks.num_pairs, sum(  # there are walks with one beginning
      max(min(len(plain[g, r]), len(plain[g, (r + 1) % NUM_WALKS])) - 1, 0) for g, r in plain
    ))  # fmt: skip

  def test_visits_of_odd_walks(self):
    """Nothing is asked at the last node, be it the cut's, an invalid move's or off the graph; a reset is no child."""
    task, rng = WITH_RESETS, np.random.default_rng(1)
    off, cut = task.num_nodes, task.max_steps
    walks = {
      (0, 0): [0, 1, 0, 1, off],
      (0, 1): [0, off],
      (1, 0): [0, 1] * (cut // 2),
      (1, 1): [0, 1, 1],
      (2, 0): [0, 1, 4, 5, 0, 1, 3],
      (2, 1): [0, 1, 2, 0, 1, 0, 1, 4, 5, 1],
    }
    visits = visits_of(task, random_graphs(task, rng, NUM_GRAPHS), [0] * NUM_GRAPHS, walks, random_logits(task, rng))
    found = {place: np.asarray(visits.position[place])[visits.exists[place]].tolist() for place in walks}
    children = {place: np.asarray(visits.child[place])[visits.exists[place]].tolist() for place in walks}
    self.assertEqual((found[0, 0], children[0, 0]), ([1, 3], [-1, -1]))
    self.assertEqual(found[0, 1], [])
    self.assertEqual(found[1, 0], list(range(1, cut - 1, 2)))
    self.assertEqual((found[1, 1], children[1, 1]), ([1], [-1]))
    self.assertEqual((found[2, 0], children[2, 0]), ([1, 5], [1, -1]))
    self.assertEqual((found[2, 1], children[2, 1]), ([1, 4, 6], [0, -1, 1]))
    self.assertEqual(int(visits.exists.sum()), sum(map(len, found.values())))

  @parameterized.parameters("float32", "bfloat16")
  def test_the_top_child_is_that_of_the_logits_not_of_rounded_probabilities(self, dtype):
    """Two logits that taking a logarithm off makes one, the later the larger; and two equal ones."""
    task, rng = WITH_MARGIN, np.random.default_rng(1)
    graphs, logits = random_graphs(task, rng, NUM_GRAPHS), jnp.array(random_logits(task, rng), dtype)
    near = jnp.array([2.0**-9, 2.0**-9 * (1 + 2.0**-7), -1.0], dtype)
    if dtype == "float32":
      near = near.at[1].set(np.nextafter(near[0], np.float32(1)))
    logits = logits.at[:, 0].set(near).at[:, 1].set(jnp.array([0.5, 0.5, 0.25], dtype))
    walks = {(g, r): [0, 1, 2] for g in range(NUM_GRAPHS) for r in range(2)}
    top = np.asarray(visits_of(task, graphs, [0] * NUM_GRAPHS, walks, logits).top)[..., 0]
    np.testing.assert_array_equal(top[:, 0], 1)
    kids = brute_force.children_of_root(task)
    np.testing.assert_array_equal(top[:, 1], np.argmin(np.asarray(graphs.labels)[:, kids[:2]], axis=1))


class CheckTest(parameterized.TestCase):
  @parameterized.parameters(
    (dict(), "task.explore_prob=0.0 is not allowed: must be above 0"),
    (dict(explore_prob=1.0, visited_margin=0.25), "task.visited_margin=0.25 is not allowed: must be below 0.25"),
    (dict(explore_prob=0.5, goal_margin=0.8), "task.goal_margin=0.8 is not allowed: must be below 0.8"),
  )
  def test_errors(self, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      check_errors_defined(StarGraph(5, 2, **settings))

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
        check_errors_defined(task)
        raised = False
      except ValueError:
        raised = True
      self.assertEqual(raised, least < 1e-9, f"{task}: {least}")


# A student, whose own decoding says what its logits were.

STUDENT = Transformer(num_layers=1, num_heads=2, width=16)
STUDENT_GRAPHS, STUDENT_WALKS = 24, 3


@dataclasses.dataclass(frozen=True)
class Recorder:
  """Keeps the logits after every node, [W - 1, G, R, V]."""

  task: StarGraph
  name = "recorder"
  neutral = None

  def check(self, strength):
    pass

  def init(self, prompt, sizes):
    return jnp.zeros((sizes.length - 1, *sizes.rows, self.task.vocabulary_size))

  def apply(self, strength, state, logits, context):
    return state.at[context.step].set(logits), logits


class StudentTest(parameterized.TestCase):
  def walk(self, task: StarGraph, model: Transformer, params, temperature: float):
    """Problems, the nodes of legal walks, which last, and the logits [G, R, W - 1, V] that generation saw."""
    generation = at_temperatures([temperature] * STUDENT_WALKS, Recorder(task), LegalMoves(task))
    student = student_functions.functions_of(model, task)

    @jax.jit
    def walk(params, problems, key):
      of_teacher = teacher.teacher_probabilities(task)
      asked = Asked(task, student, params, of_teacher, problems, generation.processors, generation.traced())
      continuations = rollouts.advance(asked, rollouts.begin(asked, key), num_steps=task.max_steps - 1)
      nodes = rollouts.finish(task, of_teacher, problems, continuations).nodes
      return nodes, jnp.moveaxis(continuations.processors[0], 0, 2)

    rng = np.random.default_rng(0)
    goals = np.broadcast_to(rng.integers(task.num_chains, size=(STUDENT_GRAPHS, 1)), (STUDENT_GRAPHS, STUDENT_WALKS))
    problems = Problems(random_graphs(task, rng, STUDENT_GRAPHS), jnp.array(goals))
    return problems, *walk(params, problems, jax.random.key(0))

  def of_children(self, task: StarGraph, problems: Problems, logits: jax.Array) -> jax.Array:
    labels = problems.graphs.labels[:, jnp.array(brute_force.children_of_root(task))]
    return jnp.stack([logits[g][..., labels[g]] for g in range(STUDENT_GRAPHS)])

  @parameterized.parameters(("edge", False), ("flat", True))
  def test_children_are_read_as_the_rollout_saw_them(self, encoding_name, goal_hidden):
    settings = dict(encoding=encoding_name, goal_hidden=goal_hidden, explore_prob=1.0, spare_labels=1)
    task = StarGraph(3, 2, max_steps=16, **settings)
    params = random_params(STUDENT, task)
    problems, nodes, logits = self.walk(task, STUDENT, params, 1.0)
    functions, of_teacher = student_functions.functions_of(STUDENT, task), teacher.teacher_probabilities(task)
    read = jax.jit(functions.read)(params, of_teacher, problems, nodes)
    got = student_functions.child_logits(task, problems.graphs, read)
    self.assertEqual(got.shape, (STUDENT_GRAPHS, STUDENT_WALKS, task.max_steps - 1, task.num_chains))
    nodes, expected = np.asarray(nodes), np.asarray(self.of_children(task, problems, logits))
    asked = nodes[..., 1:] != PADDING
    self.assertGreater(np.sum(asked & (nodes[..., :-1] == ROOT)), 100)
    np.testing.assert_allclose(np.asarray(got)[asked], expected[asked], atol=1e-4)
    self.assertGreater(np.std(expected[asked], axis=0).min(), 1e-2)  # places differ, so that a shift would show

  def test_the_top_child_is_the_one_that_a_greedy_walk_took(self):
    """Labels are nearly tied: a second reading rounds otherwise in bfloat16, and has another on top at 3 of 192."""
    task, model = StarGraph(3, 2, max_steps=16, explore_prob=1.0), dataclasses.replace(STUDENT, matmul_dtype="bfloat16")
    params = random_params(model, task, seed=1)
    kernel = params["head"]["kernel"]
    mean = jnp.mean(kernel, axis=-1, keepdims=True)
    params["head"]["kernel"] = mean + 0.003 * (kernel - mean)
    problems, nodes, logits = self.walk(task, model, params, 0.0)
    seen = self.of_children(task, problems, logits)
    visits = jitted_visits(task)(teacher.teacher_probabilities(task), problems, nodes, seen)
    enters = np.asarray(visits.exists & (visits.child >= 0))
    self.assertGreater(enters.sum(), 100)
    np.testing.assert_array_equal(visits.top[enters], visits.child[enters])


if __name__ == "__main__":
  absltest.main()
