"""Loops and the confidence in them: by hand, and against plain Python."""

from __future__ import annotations

import functools
import random

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.analysis import confidence
from loopjax.analysis.confidence import Loop
from loopjax.loops import cycles
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.teacher import PADDING

TASK = StarGraph(2, 2)  # nodes 0 (s), 1 (r), 2 and 3 (one chain), 4 and 5 (the other)
OFF = TASK.num_nodes
WALK = 40
REPETITIONS = 12
AT = (1, 2, 5, 10)
NONE = Loop(onset=-1, period=0, repetitions=0, length=0)


@jax.jit
def jitted(walks, values):
  """Loops and confidence by repetition of all walks."""
  loops = jax.vmap(functools.partial(confidence.find_loop, TASK))(walks)
  by_repetition = functools.partial(confidence.confidence_by_repetition, max_repetitions=REPETITIONS)
  return loops, jax.vmap(by_repetition)(loops, values)


jitted_rises = jax.jit(jax.vmap(confidence.rises_monotonically))
jitted_summary = jax.jit(functools.partial(confidence.summarise, TASK, max_repetitions=REPETITIONS, at=AT))


def padded(row: list, filler, width: int = WALK) -> list:
  return row + [filler] * (width - len(row))


def run(rows: list[list[int]], values: list[list[float]] | None = None, width: int = WALK):
  """Loops (one `Loop` of ints a walk) and confidence by repetition [G, M] of rows of any length."""
  values = values or [[0.0]] * len(rows)
  walks = jnp.array([padded(row, PADDING, width) for row in rows])
  loops, by_repetition = jitted(walks, jnp.array([padded(row, 0.0, width) for row in values]))
  each = [Loop(*(int(x) for x in fields)) for fields in zip(*loops, strict=True)]
  return each, np.asarray(by_repetition)


def summarise(rows: list[list[int]], values: list[list[float]]) -> confidence.ConfidenceSummary:
  walks = jnp.array([padded(row, PADDING) for row in rows])
  summary = jitted_summary(walks, jnp.array([padded(row, 0.0) for row in values]))
  return jax.tree.map(np.asarray, summary)


def plain_loop(walk: list[int]) -> Loop:
  """The definition word by word: repetition after repetition, then node after node. `walk` has no padding."""

  def same(i, j):
    return j < len(walk) and walk[i] == walk[j] != OFF

  for onset in range(len(walk)):
    for period in range(1, len(walk) + 1):

      def is_repeated(k, onset=onset, period=period):
        return all(same(onset + j, onset + k * period + j) for j in range(period))

      if is_repeated(1) and is_repeated(2):
        repetitions = 3
        while is_repeated(repetitions):
          repetitions += 1
        length = repetitions * period
        while same(onset + length - period, onset + length):
          length += 1
        return Loop(onset, period, repetitions, length)
  return NONE


def plain_by_repetition(loop: Loop, values: list[float]) -> list[float]:
  """Means over the whole repetitions that leave index 0 out."""
  if loop == NONE:
    return [np.nan] * REPETITIONS
  inside = values[loop.onset : loop.onset + loop.length][1 if loop.onset == 0 else 0 :]
  pieces = [inside[i : i + loop.period] for i in range(0, len(inside), loop.period)]
  means = [float(np.mean(piece)) for piece in pieces if len(piece) == loop.period]
  return padded(means[:REPETITIONS], np.nan, REPETITIONS)


def random_row(alphabet: list[int], width: int, rng: random.Random) -> list[int]:
  """Random nodes, in every other row with a word repeated somewhere."""
  row = rng.choices(alphabet, k=rng.randint(1, width))
  if rng.random() < 0.5:
    word = rng.choices(alphabet, k=rng.randint(1, width // 3))
    at = rng.randrange(len(row))
    row = row[:at] + word * rng.randint(2, 5) + row[at:]
  return row[:width]


class FindLoopTest(parameterized.TestCase):
  def test_by_hand(self):
    cases = {
      "s r s r s r": ([0, 1] * 3, Loop(0, 2, 3, 6)),
      "a last repetition that is not whole": ([0, 1] * 3 + [0], Loop(0, 2, 3, 7)),
      "less than three repetitions": ([0, 1, 0, 1, 0], NONE),
      "s alone": ([0], NONE),
      "a child": ([0, 1, 2] * 4 + [0], Loop(0, 3, 4, 13)),
      "a failed chain, then s r": ([0, 1, 2, 3, 0, 1, 0, 1, 0, 1], Loop(4, 2, 3, 6)),
      "first at r": ([0, 2, 1, 0, 1, 0, 1, 0], Loop(2, 2, 3, 6)),
      "period 1": ([0, 1, 2, 2, 2, 2, 1], Loop(2, 1, 4, 4)),
      "a loop that the walk leaves": ([0, 1] * 4 + [2, 3], Loop(0, 2, 4, 8)),
      "the first of two loops": ([0, 1] * 3 + [2, 3] + [0, 1, 2, 3] * 5, Loop(0, 2, 3, 6)),
      "the inner of two loops": (([0, 1] * 3 + [2]) * 4, Loop(0, 2, 3, 6)),
      "up to the cut": ([0, 1] * (WALK // 2), Loop(0, 2, WALK // 2, WALK)),
      "as long as a period may be": (([0, 1, 2, 3, 0, 1, 4, 5, 0, 1, 2, 5, 3] * 4)[:WALK], Loop(0, 13, 3, WALK)),
      "off the graph at each repetition": ([0, 1, OFF] * 5, NONE),
      "off the graph throughout": ([OFF] * 12, NONE),
      "off the graph after a loop": ([0, 1] * 3 + [OFF] * 9, Loop(0, 2, 3, 6)),
      "off the graph before a loop": ([0, OFF] + [1, 2] * 3, Loop(2, 2, 3, 6)),
    }
    loops, _ = run([row for row, _ in cases.values()])
    self.assertEqual(dict(zip(cases, loops, strict=True)), {name: want for name, (_, want) in cases.items()})

  @parameterized.parameters(3, 8, 17, WALK)
  def test_against_plain_python(self, width):
    """Loops and confidence by repetition."""
    rng = random.Random(width)
    rows = [random_row(rng.choice(([0, 1], [0, 1, 2], [0, 1, 2, OFF])), width, rng) for _ in range(1500)]
    values = [[0.0] + [rng.random() for _ in row[1:]] for row in rows]
    loops, by_repetition = run(rows, values, width)
    pairs = [(row, loop, plain_loop(row)) for row, loop in zip(rows, loops, strict=True)]
    self.assertEmpty([pair for pair in pairs if pair[1] != pair[2]][:3])  # a diff of all would take minutes
    want = [plain_by_repetition(loop, row) for loop, row in zip(loops, values, strict=True)]
    np.testing.assert_allclose(by_repetition, want, rtol=1e-5)
    self.assertLess(min(loop.onset for loop in loops), 0)  # all that can happen does
    self.assertGreaterEqual(len({loop.period for loop in loops}), min(1 + width // 3, 6))

  def test_it_is_the_first_locked_cycle_of_the_detector_for_texts(self):
    """`loops.cycles` finds all of them, by another method; here compiled code finds the first, beside confidence."""
    rng = random.Random(0)
    rows = [random_row(rng.choice(([0, 1], [0, 1, 2])), WALK, rng) for _ in range(500)]
    found, _ = run(rows)
    for row, loop in zip(rows, found, strict=True):
      first = min(cycles.locked_cycles(row, min_length=0), key=lambda c: (c.start, c.period), default=None)
      want = NONE if first is None else Loop(first.start, first.period, first.length // first.period, first.length)
      self.assertEqual(loop, want, row)

  @hypothesis.given(
    prefix=st.lists(st.integers(0, 3), max_size=12),
    word=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    copies=st.integers(3, 4),
    tail=st.integers(0, 5),
  )
  def test_a_repeated_word_is_a_loop(self, prefix, word, copies, tail):
    row = (prefix + word * copies + word[: min(tail, len(word) - 1)])[:WALK]
    (loop,), _ = run([row])
    self.assertBetween(loop.onset, 0, len(prefix))
    self.assertEqual(loop.repetitions, loop.length // loop.period)
    self.assertGreaterEqual(loop.repetitions, 3)
    inside = row[loop.onset : loop.onset + loop.length]
    self.assertEqual(inside[loop.period :], inside[: -loop.period])
    if loop.onset == len(prefix):
      self.assertLessEqual(loop.period, len(word))
      if loop.period == len(word):
        self.assertEqual((loop.repetitions, loop.length), (copies, len(row) - len(prefix)))


class ConfidenceByRepetitionTest(parameterized.TestCase):
  def test_by_hand(self):
    rows = [
      [0, 1, 2, 3, 0, 1, 0, 1, 0, 1, 0],  # s r from index 4 on
      [0, 1, 0, 1, 0, 1, 0],  # s r from s on, counted as r s
      [0, 1, 0, 1, 0, 1],  # the same, a node shorter
      [0, 1, 2, 3],
    ]
    values = [
      [0, 0.9, 0.8, 0.7, 0.1, 0.3, 0.2, 0.6, 0.5, 0.9, 1.0],
      [0, 0.2, 0.4, 0.5, 0.7, 0.9, 0.9],
      [0, 0.2, 0.4, 0.5, 0.7, 0.9],
      [0, 0.9, 0.9, 0.9],
    ]
    _, got = run(rows, values)
    nan = np.nan
    want = [[0.2, 0.4, 0.7], [0.3, 0.6, 0.9], [0.3, 0.6, nan], [nan] * 3]
    np.testing.assert_allclose(got, [padded(row, nan, REPETITIONS) for row in want], rtol=1e-6)

  @parameterized.parameters(0, 1, 2)
  def test_flat_for_a_student_that_is_equally_sure_at_each_repetition(self, num_before):
    """Wherever the loop begins; were s left out of the first repetition alone, it would stand out there."""
    row = ([2, 3][:num_before] + [0, 1] * 10)[:WALK]
    sure = {0: 0.5, 1: 1.0, 2: 0.7, 3: 0.7}
    _, got = run([row], [[0.0] + [sure[node] for node in row[1:]]])
    self.assertGreaterEqual(np.isfinite(got).sum(), 9)
    np.testing.assert_allclose(got[np.isfinite(got)], 0.75)
    self.assertEqual(jitted_rises(jnp.array(got)).tolist(), [1])

  def test_rises_monotonically(self):
    nan = np.nan
    rows = {
      (0.1, 0.2, 0.2, 0.9): 1,
      (0.1, 0.2, 0.2, nan): 1,
      (0.5, 0.5, 0.5, 0.5): 1,
      (0.5, 0.5 - 5e-7, 0.6, nan): 1,  # rounding
      (0.5, 0.5 - 5e-6, 0.6, nan): 0,
      (0.1, 0.9, 0.8, 0.95): 0,
      (0.9, 0.8, nan, nan): 0,
      (0.9, nan, nan, nan): nan,
      (nan, nan, nan, nan): nan,
    }
    np.testing.assert_array_equal(jitted_rises(jnp.array(list(rows))), list(rows.values()))


class SummariseTest(absltest.TestCase):
  def test_by_hand(self):
    """Two s r loops from index 2 on that reach repetition 12 and 10, one of period 3 that reaches 3, and no loop."""
    rows = [[0, 2] + [0, 1] * 12, [0, 2] + [0, 1] * 10, [0, 1, 2] * 3 + [0], [0, 1, 2, 3]]
    rising, falling = np.linspace(0.4, 0.95, 12), np.linspace(0.9, 0.45, 10)
    values = [[0, 0, *np.repeat(rising, 2)], [0, 0, *np.repeat(falling, 2)], [0] + [0.1] * 9, [0] + [0.9] * 3]
    got = summarise(rows, values)
    self.assertEqual((got.num_loops, got.loop_share, got.cohort_size), (3, 0.75, 2))
    np.testing.assert_allclose((got.onset, got.period), (4 / 3, 7 / 3), rtol=1e-6)
    self.assertEqual(got.num_reaching.tolist(), [3] * 3 + [2] * 7 + [1] * 2)
    early, late = (rising[:3] + falling[:3] + 0.1) / 3, (rising[3:10] + falling[3:]) / 2
    np.testing.assert_allclose(got.by_repetition, [*early, *late, *rising[10:]], rtol=1e-5)
    both = (rising[:10] + falling) / 2
    np.testing.assert_allclose(got.cohort_by_repetition, [*both, np.nan, np.nan], rtol=1e-5)
    np.testing.assert_allclose((got.share_monotone, got.cohort_share_monotone), (2 / 3, 1 / 2), rtol=1e-6)
    reaching = [[rising[0], falling[0], 0.1], [rising[1], falling[1], 0.1], [rising[4], falling[4]]]
    reaching.append([rising[9], falling[9]])
    np.testing.assert_allclose(got.quantiles, [np.quantile(v, confidence.QUANTILES) for v in reaching], rtol=1e-5)

  def test_the_cohort_is_free_of_survivorship(self):
    """Doubtful loops end early: the mean over those still there rises although no loop's confidence changes."""
    rows = [[0, 2] + [0, 1] * 3, [0, 2] + [0, 1] * 5, [0, 2] + [0, 1] * 12, [0]]
    values = [[sure] * len(row) for sure, row in zip((0.4, 0.6, 0.8, 0), rows, strict=True)]
    got = summarise(rows, values)
    np.testing.assert_allclose(got.by_repetition, [0.6] * 3 + [0.7] * 2 + [0.8] * 7, rtol=1e-6)
    np.testing.assert_allclose(got.cohort_by_repetition, [0.8] * 10 + [np.nan] * 2, rtol=1e-6)
    self.assertEqual((got.cohort_size, got.share_monotone), (1, 1))

  def test_a_fall_after_the_last_repetition_asked_for_is_not_the_cohorts(self):
    row = [0, 2] + [0, 1] * 12
    got = summarise([row] * 4, [[0.8] * (len(row) - 2) + [0.7] * 2] * 4)
    self.assertEqual((got.share_monotone, got.cohort_share_monotone), (0, 1))

  def test_without_loops_all_but_counts_is_nan(self):
    got = summarise([[0, 1, 2, 3]] * 4, [[0, 0.9, 0.9, 0.9]] * 4)
    counts = {"num_loops", "loop_share", "num_reaching", "cohort_size"}
    for name, value in got._asdict().items():
      np.testing.assert_array_equal(value, 0 if name in counts else np.nan, err_msg=name)

  def test_rejects_repetitions_outside_the_range(self):
    for at in ((), (0, 1), (1, 4)):
      with self.assertRaisesRegex(ValueError, "at.*within 1..3"):
        confidence.summarise(TASK, jnp.zeros((2, 6), int), jnp.zeros((2, 6)), max_repetitions=3, at=at)


if __name__ == "__main__":
  absltest.main()
