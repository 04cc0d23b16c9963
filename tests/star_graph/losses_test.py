"""Tests of `theory.losses`: against full enumeration, the sampler, closed forms and the marks in the docs."""

from __future__ import annotations

import math

import jax
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import teacher, theory
from loopjax.star_graph.streams import sample_walk
from tests.star_graph import brute_force
from tests.star_graph.walk_statistics import TOLERANCE, make_task

SETTINGS = (
  dict(),
  dict(explore_prob=0.5),
  dict(explore_prob=1.0, visited_margin=0.15),
  dict(explore_prob=0.7, visited_margin=0.6),
  dict(explore_prob=0.8, goal_margin=0.2),
)


def enumerated_loss(task, policy):
  """Expected summed -log q over the expected number of moves, by listing every walk of the teacher."""
  cost, moves = 0.0, 0.0
  for goal_chain in range(task.num_chains):
    for walk, probability in brute_force.enumerate_walks(task, goal_chain):
      for i in range(1, len(walk)):
        cost -= probability * math.log(policy(task, goal_chain, walk[:i])[walk[i]])
      moves += probability * (len(walk) - 1)
  return cost / moves


class LossesTest(parameterized.TestCase):
  @parameterized.product(sizes=((1, 2, 9), (3, 1, 10), (3, 2, 9)), settings=SETTINGS, reset_prob=(0.3, 0.0))
  def test_equals_enumeration(self, sizes, settings, reset_prob):
    n, chain_length, max_steps = sizes
    if n == 1 and "goal_margin" in settings:
      settings = dict(explore_prob=0.8)  # one child leaves no room for a margin
    task = make_task(n, chain_length, reset_prob, max_steps, **settings)
    want = enumerated_loss(task, brute_force.teacher_distribution)
    np.testing.assert_allclose(theory.teacher_loss(task), want, rtol=1e-12, atol=1e-15)
    want = enumerated_loss(task, brute_force.memoryless_at(1.0))
    np.testing.assert_allclose(theory.memoryless_loss(task), want, rtol=1e-12, atol=1e-15)

  @parameterized.parameters(
    (2, 0.0, 0.384, 0.801),
    (3, 0.0, 0.418, 0.772),
    (3, 0.5, 0.661, 0.741),
    (5, 0.0, 0.448, 0.747),
    (5, 0.5, 0.665, 0.734),
  )
  def test_near_the_simulated_marks(self, chain_length, explore_prob, optimum, memoryless):
    """G(5, l), cut 64: what docs/learning.md had from sampled walks, so that the last digit may differ."""
    task = make_task(5, chain_length, 0.3, max_steps=64, explore_prob=explore_prob)
    np.testing.assert_allclose(theory.teacher_loss(task), optimum, atol=1.5e-3)
    np.testing.assert_allclose(theory.memoryless_loss(task), memoryless, atol=1.5e-3)

  def test_is_the_entropy_of_the_sampler(self):
    """-log of the float32 teacher's own probabilities along its walks, unpacked."""
    task = make_task(4, 3, 0.3, max_steps=32, explore_prob=0.8, visited_margin=0.2)
    probabilities = teacher.teacher_probabilities(task)

    def one(key):
      walk, goal_chain = sample_walk(task, probabilities, key)
      visited = teacher.visited_children(task, walk)
      here, there = walk[:-1], walk[1:]
      moves = jax.vmap(lambda node, seen: teacher.next_node_probabilities(task, probabilities, goal_chain, node, seen))
      chosen = jax.numpy.take_along_axis(moves(here, visited[:-1]), there[:, None], axis=-1)[:, 0]
      counts = there != teacher.PADDING
      return -jax.numpy.sum(jax.numpy.where(counts, jax.numpy.log(chosen), 0)), counts.sum()

    cost, count = (np.asarray(x, float) for x in jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 20_000)))
    sampled = cost.sum() / count.sum()
    error = (cost - sampled * count).std() / count.mean() / np.sqrt(len(cost))
    self.assertLess(abs(sampled - theory.teacher_loss(task)), TOLERANCE * error)
    self.assertLess(error, 0.002)

  def test_search_with_nothing_to_know(self):
    """Uniform exploration without resets: log n at one of l + 2 positions of an attempt, the goal being no position."""
    n, chain_length = 4, 3
    task = make_task(n, chain_length, 0.0, max_steps=2000, explore_prob=1.0)
    positions = n * (chain_length + 2) - 1  # n attempts on average
    np.testing.assert_allclose(theory.teacher_loss(task), n * np.log(n) / positions, rtol=1e-9)
    np.testing.assert_allclose(theory.memoryless_loss(task), n * np.log(n) / positions, rtol=1e-9)

  def test_of_the_clean_teacher(self):
    task = make_task(2, 2, 0.3, injected_share=0.1)
    for loss in (theory.teacher_loss, theory.memoryless_loss):
      with self.assertRaisesRegex(ValueError, r"^task\.injected_share=0\.1 .* 0 for a theoretical learner$"):
        loss(task)


if __name__ == "__main__":
  absltest.main()
