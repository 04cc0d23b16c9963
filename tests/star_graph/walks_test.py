"""Measures of walks, against brute force and exact theory."""

from __future__ import annotations

import dataclasses
import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import teacher, theory, walks
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.streams import sample_walk
from loopjax.star_graph.teacher import PADDING
from tests.star_graph import brute_force

TOLERANCE = 4  # standard errors
WALK = 32


def make_task(n: int = 4, l: int = 2, max_steps: int = WALK, reset_prob: float = 0.3, **settings) -> StarGraph:
  return StarGraph(n, l, max_steps=max_steps, reset_prob=reset_prob, **settings)


@functools.cache
def jitted_measures(n: int, l: int):
  return jax.jit(jax.vmap(functools.partial(walks.measure_walk, make_task(n, l)), in_axes=(None, 0, 0)))


def measure(task: StarGraph, rows: list[list[int]], goals: list[int]) -> walks.WalkMeasures:
  """Fields [M], on the host; rows are padded here."""
  padded = jnp.array([row + [PADDING] * (WALK - len(row)) for row in rows])
  program = jitted_measures(task.num_chains, task.chain_length)
  return jax.tree.map(np.asarray, program(teacher.teacher_probabilities(task), padded, jnp.array(goals)))


def ended(task: StarGraph, walk: list[int], goal_chain: int) -> list[int]:
  """The walk as the environment leaves it: nothing after the goal."""
  goal = brute_force.goal_of(task, goal_chain)
  return walk[: walk.index(goal) + 1] if goal in walk else walk


def random_nodes(task: StarGraph, goal_chain: int, rng: random.Random) -> list[int]:
  """s, then any nodes, off-graph ones too; s and r often, so that there are root loops; of any length."""
  nodes = [START, ROOT] * task.num_chains + list(range(task.num_nodes + 1))
  return ended(task, [START] + rng.choices(nodes, k=rng.randrange(WALK)), goal_chain)


def corrupted(task: StarGraph, goal_chain: int, rng: random.Random) -> list[int]:
  """A teacher's walk with one or two nodes replaced, so that it has few invalid moves."""
  walk = brute_force.sample_walk(task, goal_chain, rng)
  for _ in range(rng.randrange(3)):
    walk[rng.randrange(1, len(walk))] = rng.randrange(task.num_nodes + 1)
  return ended(task, walk, goal_chain)


def teacher_walk(task: StarGraph, goal_chain: int, rng: random.Random) -> list[int]:
  return brute_force.sample_walk(task, goal_chain, rng)


@functools.cache
def jitted_teacher_measures(n: int, l: int):
  """Measures of one batch of sampled teacher walks; probabilities are traced."""
  task = make_task(n, l)

  def one(probabilities, key):
    return walks.measure_walk(task, probabilities, *sample_walk(task, probabilities, key))

  return jax.jit(jax.vmap(one, in_axes=(None, 0)))


class WalksTest(parameterized.TestCase):
  @parameterized.product(kind=(random_nodes, corrupted, teacher_walk), sizes=((4, 2), (2, 1)), reset_prob=(0.0, 0.3))
  def test_against_brute_force(self, kind, sizes, reset_prob):
    task, rng = make_task(*sizes, reset_prob=reset_prob, explore_prob=0.6, visited_margin=0.1), random.Random(0)
    goals = [rng.randrange(task.num_chains) for _ in range(1000)]
    rows = [kind(task, goal_chain, rng) for goal_chain in goals]
    got = measure(task, rows, goals)
    want = [brute_force.measure_walk(task, row, goal_chain) for row, goal_chain in zip(rows, goals, strict=True)]
    reached, lengths = np.array([m.reached for m in want]), np.array([m.response_length for m in want])
    np.testing.assert_array_equal(got.successful_length, np.where(reached, lengths, np.nan))
    names = ("reached", "broken", "response_length", "returns", "root_loops", "distinct_children", "revisits")
    for name in names:
      np.testing.assert_array_equal(getattr(got, name), [getattr(m, name) for m in want], err_msg=name)
    np.testing.assert_allclose(got.root_loop_share, [m.root_loop_share for m in want], rtol=1e-6)
    self.assertTrue(all(field.dtype == np.float32 for field in got))
    np.testing.assert_array_equal(got.reached + got.broken + got.cut, 1)
    if kind is teacher_walk:
      self.assertEqual(got.broken.max(), 0)
    else:  # all that can happen does
      ends_at_goal = np.array([row[-1] == brute_force.goal_of(task, g) for row, g in zip(rows, goals, strict=True)])
      self.assertTrue((ends_at_goal & (got.broken == 1)).any())
      self.assertGreater(len(set(lengths[got.broken == 1].tolist())), 2)
      self.assertGreater((got.cut == 1).sum(), 0)
    if kind is not random_nodes:
      self.assertGreater((got.reached == 1).sum(), 100)

  def test_by_hand(self):
    """Goal's leaf 3; s r s r s covers five nodes with two windows, s r s three; node 10 is off the graph.

    The last three are broken: off the graph, by a leap onto the goal, and by s -> s at once.
    """
    task = make_task()
    rows = [
      [0, 1, 0, 1, 0, 1, 2, 3],
      [0, 1, 4, 0, 1, 0, 1, 4, 5, 0, 1, 2, 3],
      [0],
      [0, 1, 10, 0, 1, 0, 0, 3],
      [0, 1, 4, 0, 1, 0, 1, 3],
      [0, 0, 1, 2, 3],
    ]
    got = measure(task, rows, [0] * 6)
    self.assertEqual(got.reached.tolist(), [1, 1, 0, 0, 0, 0])
    self.assertEqual(got.broken.tolist(), [0, 0, 0, 1, 1, 1])
    self.assertEqual(got.cut.tolist(), [0, 0, 1, 0, 0, 0])
    self.assertEqual(got.response_length.tolist(), [8, 13, 1, 2, 7, 1])
    self.assertEqual(got.successful_length.tolist()[:2], [8, 13])
    self.assertTrue(np.isnan(got.successful_length[2:]).all())
    self.assertEqual(got.returns.tolist(), [2, 3, 0, 0, 2, 0])
    self.assertEqual(got.root_loops.tolist(), [2, 1, 0, 0, 1, 0])
    np.testing.assert_allclose(got.root_loop_share, [5 / 8, 3 / 13, 0, 0, 3 / 7, 0], rtol=1e-6)
    self.assertEqual(got.distinct_children.tolist(), [1, 2, 0, 0, 1, 0])
    self.assertEqual(got.revisits.tolist(), [0, 1, 0, 0, 0, 0])

  def test_what_follows_an_invalid_move_changes_nothing(self):
    """Also where all of it is as the rules allow, and where it enters children."""
    task, rng = make_task(), random.Random(1)
    begun = [[0, 1, 4, 0, 1, 3], [0, 1, 0, 1, 10], [0, 1, 2, 5], [0, 2]]
    alone = measure(task, begun, [1] * 4)
    for _ in range(20):
      goes_on = [ended(task, walk + brute_force.sample_walk(task, 1, rng)[: WALK - len(walk)], 1) for walk in begun]
      for name, values in measure(task, goes_on, [1] * 4)._asdict().items():
        np.testing.assert_array_equal(values, getattr(alone, name), err_msg=name)

  def test_a_reset_that_the_teacher_never_makes_is_invalid(self):
    row = [0, 1, 0, 1, 4, 5, 0, 1, 2, 3]  # a reset at r, one at a leaf
    for reset_prob, broken, length, returns in ((0.3, 0, 10, 2), (0.0, 1, 2, 0)):
      got = measure(make_task(reset_prob=reset_prob), [row], [0])
      self.assertEqual(got.broken.tolist(), [broken])
      self.assertEqual(got.reached.tolist(), [1 - broken])
      self.assertEqual(got.response_length.tolist(), [length])
      self.assertEqual(got.returns.tolist(), [returns])

  def test_root_loop_starts(self):
    walk = jnp.array([START, ROOT, START, ROOT, START, ROOT, 2, START, START, ROOT, START])
    self.assertEqual(np.flatnonzero(walks.root_loop_starts(walk)).tolist(), [0, 2, 8])

  @parameterized.parameters(
    dict(),
    dict(explore_prob=0.5),
    dict(explore_prob=1.0, reset_prob=0.0),
    dict(explore_prob=1.0, visited_margin=0.2),
    dict(explore_prob=0.9, goal_margin=0.2, reset_prob=0.5),
  )
  def test_means_over_teacher_walks_are_the_exact_theory(self, **settings):
    task = make_task(**settings)
    keys = jax.random.split(jax.random.key(2), 20_000)
    program = jitted_teacher_measures(task.num_chains, task.chain_length)
    got = jax.tree.map(lambda x: np.asarray(x, np.float64), program(teacher.teacher_probabilities(task), keys))
    exact = theory.teacher_statistics(task)
    for field in dataclasses.fields(exact):
      if hasattr(got, field.name):
        values = getattr(got, field.name)
        values = values[np.isfinite(values)]
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        difference = abs(np.mean(values) - getattr(exact, field.name))
        self.assertLessEqual(difference, TOLERANCE * error + 1e-6, f"{field.name}: {np.mean(values)} +- {error}")
    self.assertEqual(np.isfinite(got.successful_length).sum(), got.reached.sum())
    self.assertEqual(got.broken.max(), 0)
    np.testing.assert_array_equal(got.reached + got.cut, 1)


if __name__ == "__main__":
  absltest.main()
