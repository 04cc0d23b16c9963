"""Distillation: which walks are kept, by hand; rows in plain Python; when the teacher student changes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.remedies import distillation
from loopjax.remedies.distillation import Distillation
from loopjax.star_graph import encoding, objective
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import task_state
from loopjax.training.step import Training
from tests.models.students import random_params
from tests.remedies import cases
from tests.remedies.groups_test import MODEL
from tests.star_graph import brute_force

TASK = StarGraph(2, 2, max_steps=9, reset_prob=0.3, explore_prob=0.5)
SMALL = StarGraph(2, 1, max_steps=9, reset_prob=0.3, explore_prob=0.5, spare_labels=1)
TRAINING = Training(streams_per_row=200, stream_length=9)
KEY = jax.random.key(0)


def padded(walk: list[int], size: int = 9) -> np.ndarray:
  return np.array(walk + [-1] * (size - len(walk)))


SUCCESS = [0, 1, 0, 1, 2, 0, 1, 4, 5]  # s r s r, a wrong child, s r, and the chain of goal 1
CUT = [0, 1, 0, 1, 0, 1, 0, 1, 0]
BROKEN = [0, 1, 2, 5]  # the last move leaps to the goal


@functools.cache
def keep(kind: str):
  return cases.jit(lambda walk: distillation.kept_stream(TASK, task_state(TASK, TRAINING), walk, jnp.int32(1), kind))


class KeptTest(parameterized.TestCase):
  @parameterized.parameters(
    ("raw", SUCCESS, SUCCESS), ("raw", CUT, CUT), ("raw", BROKEN, [0, 1, 2]),
    ("successful", SUCCESS, SUCCESS), ("successful", CUT, []), ("successful", BROKEN, []),
    ("erased", SUCCESS, [0, 1, 4, 5]), ("erased", CUT, []), ("erased", BROKEN, []),
  )  # fmt: skip
  def test_by_hand(self, kind, walk, expected):
    """The moves that count, after the goal that is told."""
    stream = keep(kind)(padded(walk))
    counts = np.asarray(stream.weight) > 0
    self.assertEqual(stream.node[counts].tolist(), expected[:-1])
    self.assertEqual(stream.target[counts].tolist(), expected[1:])
    self.assertEqual(stream.node[0], brute_force.goal_of(TASK, 1))
    self.assertLen(stream.node, 4 if kind == "erased" else 9)


@functools.cache
def built(kind: str, task: StarGraph = SMALL):
  config = Distillation(1.0, kind)
  made = config.build(task, MODEL, TRAINING)
  return made, made.begin(random_params(MODEL, task), config.init(KEY, task, TRAINING))


@functools.cache
def row_of(kind: str, share: float = 1.0) -> encoding.Row:
  made, extra = built(kind)
  sample = cases.jit(functools.partial(made.sample, state=task_state(SMALL, TRAINING)))
  return jax.tree.map(np.asarray, sample(KEY, extra=extra._replace(share=jnp.float32(share))))


def walks_of(row: encoding.Row):
  """(stream, number of the walk, goal told, its nodes) of every walk that counts."""
  labels = row.labels.tolist()
  for stream, number in np.ndindex(TRAINING.streams_per_row, 9):
    here = (row.segments[stream] == number) & (row.weights[stream] > 0)
    if here.any():
      told = (row.segments[stream] == number) & (row.inputs[stream][:, 1] == encoding.goal_id(SMALL))
      (goal,) = row.inputs[stream][told, 0]
      said = [*row.inputs[stream][here, 0], row.targets[stream][here][-1]]
      yield stream, number, labels.index(goal), [labels.index(label) for label in said]


class RowTest(absltest.TestCase):
  def test_raw_walks_are_those_of_the_student(self):
    """All begin at s and make valid moves, one a stream; some fail."""
    walks = list(walks_of(row_of("raw")))
    for _, number, goal, walk in walks:
      self.assertEqual((number, walk[0]), (0, 0))
      self.assertNotIn(goal, walk[:-1])
      for before, after in zip(walk, walk[1:], strict=False):
        self.assertIn(after, brute_force.valid_successors(SMALL, before))
    self.assertGreater(len({tuple(walk) for *_, walk in walks}), 3)
    self.assertGreater(len([walk for *_, goal, walk in walks if walk[-1] != goal]), 3)
    self.assertLen({goal for *_, goal, _ in walks}, 2)

  def test_erased_walks_are_direct_ways_side_by_side(self):
    walks = list(walks_of(row_of("erased")))
    self.assertBetween(len(walks), 10, 300)
    for *_, goal, walk in walks:
      self.assertEqual(walk, [0, 1, goal])
    self.assertLen({number for _, number, *_ in walks}, 3)  # of 3 positions each, in 9

  def test_at_share_0_rows_are_those_of_maximum_likelihood(self):
    plain = cases.jit(lambda key: objective.sample_row(SMALL, TRAINING, key, task_state(SMALL, TRAINING)))(KEY)
    jax.tree.map(np.testing.assert_array_equal, row_of("raw", 0.0), plain)


class TeacherTest(absltest.TestCase):
  def test_rounds(self):
    """Refreshed every 2 steps: after the second update the teacher student is the student of then."""
    made, extra = built("raw")
    first, extra, after = extra.teacher, extra._replace(refresh_every=jnp.int32(2)), jax.jit(made.after_update)
    of = lambda number: jax.tree.map(lambda leaf: jnp.full_like(leaf, number), first)
    for step, expected in ((1, first), (2, of(2)), (3, of(2)), (4, of(4))):
      extra = after(of(step), extra, KEY)
      jax.tree.map(np.testing.assert_array_equal, extra.teacher, expected)

  def test_without_rounds_it_stays(self):
    made, extra = built("raw")
    after = jax.jit(made.after_update)(jax.tree.map(jnp.zeros_like, extra.teacher), extra, KEY)
    jax.tree.map(np.testing.assert_array_equal, after.teacher, extra.teacher)

  def test_validation(self):
    for kwargs, message in (
      ({"share": 1.5}, r"^objective\.share=1\.5 .* in \[0, 1\]$"),
      ({"walks": "some"}, r"^objective\.walks='some' .* one of "),
      ({"refresh_every": -1}, r"^objective\.refresh_every=-1 .* at least 0$"),
      ({"temperature": -0.5}, r"^objective\.temperature=-0\.5 .* 0, or at least "),
    ):
      with self.assertRaisesRegex(ValueError, message):
        Distillation(**kwargs)


if __name__ == "__main__":
  absltest.main()
