"""The teacher: its probabilities, the validity of moves, and its sampled walks and streams, against brute force."""

from __future__ import annotations

import collections
import functools
import itertools
import math
import random

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.star_graph import teacher, theory
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.streams import Stream, first_walk_only, sample_stream, sample_walk, stream_length
from loopjax.star_graph.teacher import PADDING
from tests.star_graph import brute_force

SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never
TOLERANCE = 4  # standard errors
WALK = 24

# One size: its programs are compiled once for every setting of the probabilities, which are traced.
SETTINGS = (
  dict(reset_prob=0.3),
  dict(reset_prob=0.0, explore_prob=1.0),
  dict(reset_prob=0.3, explore_prob=0.8, visited_margin=0.2),
  dict(reset_prob=0.2, explore_prob=1.0, visited_margin=2.0),
  dict(reset_prob=0.5, explore_prob=0.9, goal_margin=0.3),
)


def make_task(n: int = 3, l: int = 2, max_steps: int = WALK, **settings) -> StarGraph:
  return StarGraph(n, l, max_steps=max_steps, **settings)


def random_walk(task: StarGraph, rng: random.Random, length: int) -> list[int]:
  """A walk along edges and resets, each as likely as the others: it reaches more visited sets than the teacher."""
  walk = [START]
  while len(walk) < length:
    moves = brute_force.valid_successors(task, walk[-1]) | ({START} if walk[-1] == ROOT else set())
    walk.append(rng.choice(sorted(moves)))
  return walk


@functools.cache
def jitted_distributions(n: int, l: int):
  """(probabilities, goal, walk [W]) -> the teacher's distributions after each node of the walk, [W, N]."""
  task = make_task(n, l)

  def distributions(probabilities, goal_chain, walk):
    visited = teacher.visited_children(task, walk)
    each = functools.partial(teacher.next_node_probabilities, task, probabilities, goal_chain)
    return jax.vmap(each)(walk, visited)

  return jax.jit(distributions)


def distributions(task: StarGraph, goal_chain: int, walk: list[int]) -> np.ndarray:
  """[W, N]."""
  program = jitted_distributions(task.num_chains, task.chain_length)
  return np.asarray(program(teacher.teacher_probabilities(task), jnp.int32(goal_chain), jnp.array(walk)))


def dense(task: StarGraph, distribution: dict[int, float]) -> np.ndarray:
  """[N]."""
  return np.array([distribution.get(node, 0.0) for node in range(task.num_nodes)])


@functools.cache
def jitted_exploration(n: int):
  """(probabilities, goal, visited [K, C]) -> exploration distributions and the teacher's at r, [K, C] each."""
  task = make_task(n, 1, max_steps=200)

  def both(probabilities, goal_chain, visited):
    at_root = teacher.next_node_probabilities(task, probabilities, goal_chain, jnp.int32(ROOT), visited)
    return teacher.exploration_distribution(task, probabilities, goal_chain, visited), at_root[2:]

  return jax.jit(jax.vmap(both, in_axes=(None, None, 0)))


def explorations(task: StarGraph, visited: list[list[int]], goal_chain: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """The exploration distributions given each of `visited`, and the teacher's probabilities of children at r."""
  seen = jnp.array([[chain in chains for chain in range(task.num_chains)] for chains in visited])
  program = jitted_exploration(task.num_chains)
  return jax.tree.map(np.asarray, program(teacher.teacher_probabilities(task), jnp.int32(goal_chain), seen))


@functools.cache
def jitted_streams(goal_hidden: bool, injected_kind: str):
  task = make_task(goal_hidden=goal_hidden, injected_kind=injected_kind)
  length = 2 * stream_length(task)
  sample = functools.partial(sample_stream, task, length=length)
  return jax.jit(jax.vmap(sample, in_axes=(None, 0)))


def sample_streams(task: StarGraph, count: int) -> Stream:
  """Streams that hold any two walks of a task of the size that `make_task` gives; fields [M, L], on the host."""
  keys = jax.random.split(jax.random.key(3), 3000)
  streams = jitted_streams(task.goal_hidden, task.injected_kind)(teacher.teacher_probabilities(task), keys)
  return jax.tree.map(lambda field: np.asarray(field)[:count], streams)


@functools.cache
def jitted_walks(n: int, l: int, max_steps: int, goal_hidden: bool = False):
  task = make_task(n, l, max_steps, goal_hidden=goal_hidden)
  return jax.jit(jax.vmap(functools.partial(sample_walk, task), in_axes=(None, 0)))


def sample_walks(task: StarGraph, count: int) -> list[tuple[list[int], int]]:
  """Rows of nodes, padding included, and their goals' chains."""
  program = jitted_walks(task.num_chains, task.chain_length, task.max_steps, task.goal_hidden)
  walks, goals = program(teacher.teacher_probabilities(task), jax.random.split(jax.random.key(5), 4000))
  return list(zip(walks[:count].tolist(), goals[:count].tolist(), strict=True))


def unpadded(row: list[int]) -> list[int]:
  return row[: row.index(PADDING)] if PADDING in row else row


class ProbabilitiesTest(parameterized.TestCase):
  @hypothesis.given(data=st.data())
  def test_against_brute_force(self, data):
    n, l = data.draw(st.sampled_from([(1, 2), (2, 1), (3, 2), (5, 3)]))  # each is compiled
    margin = data.draw(st.sampled_from(["none", "visited", "goal"]))
    task = make_task(
      n, l,
      reset_prob=data.draw(st.floats(0, 0.99)),
      explore_prob=data.draw(st.floats(0, 1)),
      visited_margin=data.draw(st.floats(0, 2)) if margin == "visited" else 0.0,
      goal_margin=data.draw(st.floats(0, 1 - 1 / n)) if margin == "goal" else 0.0,
    )  # fmt: skip
    walk = random_walk(task, random.Random(data.draw(st.integers(0, 10**6))), WALK)
    goal_chain = data.draw(st.integers(0, n - 1))
    got = distributions(task, goal_chain, walk)
    want = [dense(task, brute_force.teacher_distribution(task, goal_chain, walk[: i + 1])) for i in range(WALK)]
    np.testing.assert_allclose(got, want, atol=5e-7)
    np.testing.assert_allclose(got.sum(axis=-1), 1, atol=1e-6)
    self.assertGreaterEqual(got.min(), 0)

  def test_random_walks_reach_every_visited_set(self):
    """Else the test above would not see the margin."""
    walks = [random_walk(make_task(), random.Random(seed), WALK) for seed in range(100)]
    seen = {frozenset(brute_force.entered_children(make_task(), walk[:i])) for walk in walks for i in range(WALK)}
    self.assertLen(seen, 2**3)

  @parameterized.parameters(
    ([], [0.2, 0.2, 0.2, 0.2, 0.2]),
    ([1], [0.225, 0.1, 0.225, 0.225, 0.225]),  # 0.225 = (1 + 0.125)/5
    ([1, 4], [0.25, 0.125, 0.25, 0.25, 0.125]),
    ([0, 1, 4], [0.15, 0.15, 0.275, 0.275, 0.15]),
    ([0, 1, 2, 3, 4], [0.2, 0.2, 0.2, 0.2, 0.2]),
  )
  def test_visited_margin(self, visited, want):
    """m = 1/8: (1 + k/8)/5 each for the unvisited, the rest is split."""
    got, _ = explorations(make_task(5, 1, visited_margin=0.125), [visited])
    np.testing.assert_allclose(got, [want], atol=1e-7)

  def test_goal_margin(self):
    task = make_task(4, 1, goal_margin=0.3)
    got, _ = explorations(task, [[], [2], [0, 2]], goal_chain=2)
    np.testing.assert_allclose(got, 3 * [[0.15, 0.15, 0.55, 0.15]], atol=1e-7)

  @parameterized.product(n=(2, 5, 13, 50), margin=(1.0, 1.7, 50.0))
  def test_a_saturated_margin_leaves_visited_children_exactly_nothing(self, n, margin):
    """Not 1e-8: a student's log-probability is held against the teacher's, and a child must not come back."""
    task = make_task(n, 1, max_steps=200, reset_prob=0.1, explore_prob=1.0, visited_margin=margin)
    got, at_root = explorations(task, [list(range(k)) for k in range(1, n)])
    for k in range(1, n):
      self.assertEqual(got[k - 1, :k].tolist(), [0.0] * k)
      self.assertEqual(at_root[k - 1, :k].tolist(), [0.0] * k)
      np.testing.assert_allclose(got[k - 1, k:], 1 / (n - k), rtol=1e-6)

  @parameterized.parameters(2, 3, 5, 7, 13, 50)
  def test_the_widest_goal_margin_leaves_the_others_exactly_nothing(self, n):
    task = make_task(n, 1, max_steps=200, reset_prob=0.1, explore_prob=1.0, goal_margin=1 - 1 / n)
    for got in explorations(task, [[]], goal_chain=1):
      self.assertEqual(np.delete(got[0], 1).tolist(), [0.0] * (n - 1))
    np.testing.assert_allclose(got[0, 1], 0.9, rtol=1e-6)

  def test_visited_children(self):
    task = make_task(3, 2)  # children 2, 4, 6
    walk = jnp.array([0, 1, 4, 0, 1, 4, 5, 0, 1, 2, PADDING])
    want = [[]] * 2 + [[1]] * 7 + [[0, 1]] * 2
    got = [np.flatnonzero(row).tolist() for row in teacher.visited_children(task, walk)]
    self.assertEqual(got, want)


class ValidMovesTest(parameterized.TestCase):
  @parameterized.product(sizes=((1, 1), (3, 1), (3, 2), (2, 4)), reset_prob=(0.0, 0.3))
  def test_every_pair_of_nodes(self, sizes, reset_prob):
    """Off-graph nodes (N) and padding included."""
    task = make_task(*sizes, reset_prob=reset_prob)
    pairs = list(itertools.product(range(PADDING, task.num_nodes + 1), repeat=2))
    want = [PADDING in pair or pair[1] in brute_force.valid_successors(task, pair[0]) for pair in pairs]
    got = teacher.valid_moves(task, teacher.teacher_probabilities(task), jnp.array(pairs))
    self.assertEqual(np.asarray(got)[:, 0].tolist(), want)
    self.assertNotIn(False, [got for got, (a, b) in zip(want, pairs, strict=True) if a == START and b == ROOT])

  @parameterized.parameters(0.0, 0.3)
  def test_random_sequences(self, reset_prob):
    task = make_task(3, 2, reset_prob=reset_prob)
    walks = np.random.default_rng(0).integers(PADDING, task.num_nodes + 1, size=(2, 50, WALK))
    got = np.asarray(teacher.valid_moves(task, teacher.teacher_probabilities(task), jnp.array(walks)))
    self.assertEqual(got.shape, (2, 50, WALK - 1))
    for walk, valid in zip(walks.reshape(-1, WALK).tolist(), got.reshape(-1, WALK - 1).tolist(), strict=True):
      for (a, b), is_valid in zip(itertools.pairwise(walk), valid, strict=True):
        self.assertEqual(is_valid, PADDING in (a, b) or b in brute_force.valid_successors(task, a), (a, b))


class WalksTestCase(parameterized.TestCase):
  def assert_is_a_walk(self, task: StarGraph, walk: list[int], goal_chain: int, cut_early: bool = False) -> None:
    """Every move has a positive probability; the walk ends at its goal or the cut, or before if it is `cut_early`."""
    self.assertEqual(walk[0], START)
    for i in range(1, len(walk)):
      moves = brute_force.teacher_distribution(task, goal_chain, walk[:i])
      self.assertGreater(moves.get(walk[i], 0.0), 0, f"{walk[: i + 1]} towards {goal_chain}")
    goal = brute_force.goal_of(task, goal_chain)
    self.assertNotIn(goal, walk[:-1])
    self.assertLessEqual(len(walk), task.max_steps)
    self.assertTrue(walk[-1] == goal or len(walk) == task.max_steps or cut_early, walk)

  def walks_of_stream(self, task: StarGraph, stream: Stream) -> list[tuple[list[int], int]]:
    """Reads the walks off one stream [L], checking how they follow one another."""
    indices = range(len(stream.walk))
    runs = [(number, list(places)) for number, places in itertools.groupby(indices, lambda t: int(stream.walk[t]))]
    self.assertEqual([number for number, _ in runs], list(range(len(runs))))
    walks = []
    for _, places in runs:
      first = 0 if task.goal_hidden else -1
      self.assertEqual(stream.position[places].tolist(), list(range(first, first + len(places))))
      self.assertEqual(stream.weight[places].tolist(), [float(position >= 0) for position in stream.position[places]])
      self.assertEqual(stream.target[places[:-1]].tolist(), stream.node[places[1:]].tolist())
      (goal_chain,) = set(stream.goal_chain[places].tolist())
      nodes = [*stream.node[places].tolist(), int(stream.target[places[-1]])]
      if not task.goal_hidden:
        self.assertEqual(nodes.pop(0), brute_force.goal_of(task, goal_chain))
      walks.append((nodes, goal_chain))
    return walks


class WalksTest(WalksTestCase):
  @parameterized.product(settings=SETTINGS, goal_hidden=(False, True))
  def test_sampled_walks(self, settings, goal_hidden):
    task = make_task(**settings, goal_hidden=goal_hidden)
    pairs = sample_walks(task, 200)
    rows = jnp.array([row for row, _ in pairs])
    self.assertEqual(rows.shape, (200, task.max_steps))
    self.assertTrue(teacher.valid_moves(task, teacher.teacher_probabilities(task), rows).all())
    for row, goal_chain in pairs:
      walk = unpadded(row)
      self.assertEqual(row, walk + [PADDING] * (task.max_steps - len(walk)))
      self.assert_is_a_walk(task, walk, goal_chain)
    self.assertGreater(len({tuple(row) for row, _ in pairs}), 10)

  @parameterized.product(settings=SETTINGS, goal_hidden=(False, True))
  def test_streams(self, settings, goal_hidden):
    task = make_task(**settings, goal_hidden=goal_hidden)
    streams = sample_streams(task, 40)
    num_walks = 0
    for i in range(40):
      walks = self.walks_of_stream(task, jax.tree.map(lambda field, i=i: field[i], streams))
      for number, (walk, goal_chain) in enumerate(walks):
        self.assert_is_a_walk(task, walk, goal_chain, cut_early=number == len(walks) - 1)
      num_walks += len(walks)
    self.assertGreater(num_walks, 80)

  def test_first_walk_only(self):
    whole = sample_streams(make_task(reset_prob=0.3), 20)
    first = first_walk_only(whole)
    is_first = whole.walk == 0
    self.assertFalse(is_first.all())
    np.testing.assert_array_equal(first.node, np.where(is_first, whole.node, PADDING))
    np.testing.assert_array_equal(first.target, np.where(is_first, whole.target, PADDING))
    np.testing.assert_array_equal(first.weight, np.where(is_first, whole.weight, 0))
    np.testing.assert_array_equal(first.position[is_first], whole.position[is_first])
    np.testing.assert_array_equal(first.goal_chain[is_first], whole.goal_chain[is_first])

  @parameterized.parameters(False, True)
  def test_a_walk_that_is_cut_takes_the_positions_of_stream_length(self, goal_hidden):
    """A greater length would be padded, a smaller one would not hold every walk."""
    task = make_task(reset_prob=0.9, goal_hidden=goal_hidden)
    streams = sample_streams(task, 20)
    is_first = streams.walk == 0
    self.assertEqual(is_first.sum(axis=1).max(), stream_length(task))
    self.assertEqual(streams.position.max(), task.max_steps - 2)  # whose target is the last node of a cut walk
    self.assertEqual(max(len(unpadded(row)) for row, _ in sample_walks(task, 20)), task.max_steps)

  def test_the_shortest_cut(self):
    """max_steps = l + 2 leaves room for one attempt: it succeeds with (1 - reset_prob)^l, if r leads to the goal."""
    task = make_task(3, 2, max_steps=4, reset_prob=0.3)
    pairs = sample_walks(task, 4000)
    successes = sum(brute_force.goal_of(task, goal_chain) == row[-1] for row, goal_chain in pairs)
    error = math.sqrt(0.49 * 0.51 / 4000)
    self.assertLess(abs(successes / 4000 - 0.49), TOLERANCE * error)
    self.assertEqual({len(unpadded(row)) for row, _ in pairs}, {4})
    smallest = make_task(1, 1, max_steps=3, reset_prob=0.0)
    self.assertEqual(sample_walks(smallest, 2), [([START, ROOT, 2], 0)] * 2)


class DistributionTest(parameterized.TestCase):
  """What the sampler draws, against exact probabilities."""

  def assert_mean(self, values, want: float, label: str) -> None:
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    self.assertGreater(error, 0)
    self.assertLess(abs(np.mean(values) - want), TOLERANCE * error, f"{label}: {np.mean(values)} against {want}")

  @parameterized.parameters(False, True)
  def test_the_walks_of_a_stream_are_independent_teacher_walks(self, goal_hidden):
    """The first two walks of streams that hold any two: had the second kept visits or its goal, it would differ."""
    task = make_task(reset_prob=0.2, explore_prob=1.0, visited_margin=0.2, goal_hidden=goal_hidden)
    streams = sample_streams(task, 3000)
    exact = theory.teacher_statistics(task)
    measures, goals = [], []
    for number in (0, 1):
      walks = [target[(walk == number) & (weight > 0)].tolist() for target, walk, weight in zip(
        streams.target, streams.walk, streams.weight, strict=True)]  # fmt: skip
      goals.append(np.array([chains[walk == number][0] for chains, walk in zip(
        streams.goal_chain, streams.walk, strict=True)]))  # fmt: skip
      pairs = zip(walks, goals[-1].tolist(), strict=True)
      measures.append([brute_force.measure_walk(task, [START, *walk], goal) for walk, goal in pairs])
      for name in ("returns", "response_length", "root_loop_share", "distinct_children", "revisits"):
        self.assert_mean([getattr(m, name) for m in measures[-1]], getattr(exact, name), f"{name} of walk {number}")
      self.assert_mean([m.reached for m in measures[-1]], exact.reached, f"reached of walk {number}")
      self.assertGreater(scipy.stats.chisquare(np.bincount(goals[-1], minlength=3)).pvalue, SMALLEST_P)
    table = np.zeros((3, 3))
    np.add.at(table, tuple(goals), 1)
    self.assertGreater(scipy.stats.chi2_contingency(table).pvalue, SMALLEST_P)
    lengths = [[m.response_length for m in walks] for walks in measures]
    self.assertGreater(scipy.stats.pearsonr(*lengths).pvalue, SMALLEST_P)

  @parameterized.parameters(*SETTINGS[1:])
  def test_frequencies_of_moves(self, **settings):
    """Given node, goal and visited children, moves are drawn from `next_node_probabilities`: chi-square, pooled."""
    task = make_task(**settings)
    moves = collections.defaultdict(collections.Counter)
    for row, goal_chain in sample_walks(task, 4000):
      walk = unpadded(row)
      for i in range(1, len(walk)):
        visited = tuple(sorted(set(brute_force.entered_children(task, walk[:i]))))
        moves[walk[i - 1], goal_chain, visited][walk[i]] += 1
    statistic, freedom = 0.0, 0
    for (node, goal_chain, visited), counts in moves.items():
      total = counts.total()
      # A walk that ends where its visits do: the distribution after its last node is the one asked for.
      expected = distributions(task, goal_chain, [START] * (WALK - 1 - len(visited)) + [*visited, node])[-1] * total
      observed = np.array([counts[next_node] for next_node in range(task.num_nodes)])
      self.assertEqual(observed[expected == 0].sum(), 0)
      possible = expected > 0
      if expected[possible].min() >= 5:
        statistic += np.sum((observed - expected)[possible] ** 2 / expected[possible])
        freedom += possible.sum() - 1
    self.assertGreater(freedom, 20)
    self.assertGreater(scipy.stats.chi2.sf(statistic, freedom), SMALLEST_P)

  def test_keys_decide(self):
    task = make_task(reset_prob=0.3, explore_prob=0.5)
    program = jitted_walks(task.num_chains, task.chain_length, task.max_steps)
    keys = jax.random.split(jax.random.key(0), 3)
    walks, _ = program(teacher.teacher_probabilities(task), keys[jnp.array([0, 0, 1, 2])])
    np.testing.assert_array_equal(walks[0], walks[1])
    self.assertGreater(len({tuple(walk) for walk in walks.tolist()}), 1)


class InjectedLoopsTest(WalksTestCase):
  @parameterized.parameters("root", "child", "cycle")
  def test_loops_are_those_of_brute_force_and_equally_likely(self, kind):
    """With a share of 1 every walk is one; that they are listed says that they last and never reach the goal."""
    task = make_task(reset_prob=0.3, injected_share=1.0, injected_kind=kind)
    streams = sample_streams(task, 3000)
    self.assertTrue(streams.injected.all())
    first = streams.position.max() + 1 + (streams.position.min() < 0)
    for goal_chain in range(task.num_chains):
      counts = {tuple(loop): 0 for loop in brute_force.injected_loops(task, goal_chain)}
      self.assertLen(counts, {"root": 1, "child": 2, "cycle": 5}[kind])
      for i in np.flatnonzero(streams.goal_chain[:, 0] == goal_chain):
        counts[(START, *streams.target[i, 1:first].tolist())] += 1
      self.assertGreater(scipy.stats.chisquare(list(counts.values())).pvalue if len(counts) > 1 else 1, SMALLEST_P)

  @parameterized.product(kind=("root", "child", "cycle"), reset_prob=(0.0, 0.3))
  def test_streams_mix_loops_and_walks_of_the_teacher(self, kind, reset_prob):
    """The last walk of a stream, a loop or not, is cut by its end."""
    task = make_task(reset_prob=reset_prob, explore_prob=1.0, injected_share=0.3, injected_kind=kind)
    streams = sample_streams(task, 100)
    for i in range(100):
      stream = jax.tree.map(lambda field, i=i: field[i], streams)
      walks = self.walks_of_stream(task, stream)
      for number, (walk, goal_chain) in enumerate(walks):
        (injected,) = set(stream.injected[stream.walk == number].tolist())
        is_last = number == len(walks) - 1
        if injected:
          self.assertTrue(is_last or len(walk) == task.max_steps)
          self.assertIn(walk, [loop[: len(walk)] for loop in brute_force.injected_loops(task, goal_chain)])
        else:
          self.assert_is_a_walk(task, walk, goal_chain, cut_early=is_last)

  @parameterized.parameters(0.0, 0.03, 0.3)
  def test_share_of_walks(self, share):
    """Of first walks, and of those after a loop and after a walk of the teacher; with a share of 0 there is none."""
    streams = sample_streams(make_task(injected_share=share, explore_prob=1.0), 3000)
    first, second = (np.any(streams.injected & (streams.walk == number), axis=1) for number in (0, 1))
    for drawn in (first, second[first], second[~first]):
      error = math.sqrt(share * (1 - share) / max(len(drawn), 1))
      self.assertLessEqual(abs(np.sum(drawn) - len(drawn) * share), TOLERANCE * len(drawn) * error)
    self.assertEqual(streams.injected.any(), share > 0)

  def test_the_kind_does_not_matter_without_a_share(self):
    root, cycle = (sample_streams(make_task(explore_prob=0.5, injected_kind=kind), 3000) for kind in ("root", "cycle"))
    for got, want in zip(root, cycle, strict=True):
      np.testing.assert_array_equal(got, want)

  def test_the_shortest_excursions_fill_a_stream(self):
    """Cut at 4, with no goal token: s, r and s again take three positions of two excursions, the most there can be."""
    task = make_task(max_steps=4, goal_hidden=True, injected_share=1.0)
    sample = functools.partial(sample_stream, task, length=50)
    stream = jax.jit(sample)(teacher.teacher_probabilities(task), jax.random.key(0))
    self.assertEqual(stream.node.tolist(), (17 * [START, ROOT, START])[:50])
    self.assertEqual(stream.walk.tolist(), (np.arange(50) // 3).tolist())


if __name__ == "__main__":
  absltest.main()
