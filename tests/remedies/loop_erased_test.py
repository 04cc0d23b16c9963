"""Loop erasure: against plain Python on any walk, its laws, and the rows of erased walks."""

from __future__ import annotations

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.transformer import Transformer
from loopjax.remedies import loop_erased
from loopjax.remedies.loop_erased import LoopErased
from loopjax.star_graph import encoding, objective
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import task_state
from loopjax.training.step import Training
from tests.remedies import cases
from tests.star_graph import brute_force

TASK = StarGraph(3, 2, max_steps=12, reset_prob=0.4, explore_prob=1.0, spare_labels=1)
HIDDEN = StarGraph(2, 1, max_steps=9, reset_prob=0.4, goal_hidden=True)
TRAINING = Training(streams_per_row=60, stream_length=15)
LONGEST = 14


def plain_erasure(walk: list[int]) -> list[int]:
  """Lawler's, in the order of time: a node that is already on the path takes the path back to itself."""
  path: list[int] = []
  for node in walk:
    path = path[: path.index(node) + 1] if node in path else [*path, node]
  return path


@functools.cache
def jitted_erasure():
  return cases.jit(loop_erased.erase_loops)


def erase(walk: list[int]) -> list[int]:
  """By the fast code, in an array of fixed size."""
  padded = np.full(LONGEST, -1)
  padded[: len(walk)] = walk
  found = np.asarray(jitted_erasure()(padded)).tolist()
  end = found.index(-1) if -1 in found else LONGEST
  assert set(found[end:]) <= {-1}
  return found[:end]


class ErasureTest(parameterized.TestCase):
  @parameterized.parameters(
    ([0, 1, 2, 0, 1, 3, 0, 1, 3, 4], [0, 1, 3, 4]), ([0, 1, 0, 1, 0, 1], [0, 1]), ([0, 1, 0], [0]), ([5], [5])
  )
  def test_by_hand(self, walk, expected):
    self.assertEqual(erase(walk), expected)
    self.assertEqual(plain_erasure(walk), expected)

  @hypothesis.settings(max_examples=200)
  @hypothesis.given(st.lists(st.integers(0, 5), min_size=1, max_size=LONGEST))
  def test_any_walk(self, walk):
    erased = erase(walk)
    self.assertEqual(erased, plain_erasure(walk))
    self.assertLen(set(erased), len(erased))
    self.assertEqual((erased[0], erased[-1]), (walk[0], walk[-1]))
    moves = set(zip(walk, walk[1:], strict=False))
    self.assertTrue(all(move in moves for move in zip(erased, erased[1:], strict=False)))
    self.assertEqual(erase(erased), erased)


@functools.cache
def row_of(task: StarGraph) -> encoding.Row:
  make = cases.jit(lambda key: loop_erased.erased_row(task, TRAINING, key, task_state(task, TRAINING)))
  return jax.tree.map(np.asarray, make(jax.random.key(0)))


class RowTest(parameterized.TestCase):
  @parameterized.parameters((TASK, 4, 3), (HIDDEN, 2, 7))
  def test_streams_hold_direct_ways_to_their_goals(self, task, size, count):
    """`size` positions a walk, `count` walks in the 15 positions of a stream; walks that were cut count nowhere."""
    row, first, goals, missing = row_of(task), 0 if task.goal_hidden else 1, set(), 0
    for stream in range(TRAINING.streams_per_row):
      self.assertEqual(row.segments[stream].tolist(), [i // size for i in range(15)])
      self.assertTrue((row.weights[stream, size * count :] == 0).all())
      for number in range(count):
        here = stream, slice(size * number, size * (number + 1))
        weights = row.weights[here].tolist()
        if not any(weights):
          missing += 1
          continue
        self.assertEqual(weights, [0.0] * first + [1.0] * (size - first))
        self.assertEqual(row.positions[here].tolist(), [encoding.prompt_length(task) + i for i in range(size)])
        labels = row.labels.tolist()
        walk = [labels.index(label) for label in [*row.inputs[here][first:, 0], row.targets[here][-1]]]
        chain = (walk[-1] - 2) // task.chain_length
        way = [brute_force.node_number(task, chain, depth + 1) for depth in range(task.chain_length)]
        self.assertEqual(walk, [0, 1, *way])
        if first:
          self.assertEqual(row.inputs[here][0].tolist(), [labels[walk[-1]], encoding.goal_id(task)])
        goals.add(chain)
    self.assertLen(goals, task.num_chains)
    self.assertBetween(missing, 1, 60 * count - 30)

  def test_without_erasure_rows_are_those_of_maximum_likelihood(self):
    state, key = task_state(TASK, TRAINING), jax.random.key(5)
    built = LoopErased().build(TASK, Transformer(num_layers=1, num_heads=1, width=4), TRAINING)
    found = cases.jit(built.sample)(key, state, LoopErased(0.0).init(key, TASK, TRAINING))
    plain = cases.jit(lambda key: objective.sample_row(TASK, TRAINING, key, state))(key)
    jax.tree.map(np.testing.assert_array_equal, found, plain)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      LoopErased(1.5)


if __name__ == "__main__":
  absltest.main()
