"""Cycles on a device against `loops`: of whole texts, and of texts that grow."""

from __future__ import annotations

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.generation import cycles
from loopjax.loops import online
from loopjax.loops.cycles import locked_cycles
from tests.generation.matches_test import LENGTH, followed, loop_of

WHOLE = {"first": jax.jit(cycles.first_cycle), "tail": jax.jit(cycles.tail_cycle)}
NONE = (0, 0, 0)
texts = st.composite(loop_of)


def found(which: str, text: list[int]) -> tuple[int, ...]:
  return tuple(int(part) for part in WHOLE[which](np.array(text)))


def expected(which: str, text: list[int]) -> tuple[int, ...]:
  """By `loops`: of those that begin first, or of those that reach the end, the one of the smallest period."""
  all_of_them = locked_cycles(text, min_length=0)
  if which == "first":
    candidates = [(c.start, c.period, c.end) for c in all_of_them]
    start, period, end = min(candidates, default=NONE)
  else:
    period, start, end = min(((c.period, c.start, c.end) for c in all_of_them if c.is_tail), default=NONE)
  return start, end, period


class WholeTextTest(parameterized.TestCase):
  @parameterized.product(which=tuple(WHOLE), leaves=(True, False))
  def test_as_loops_finds_them(self, which, leaves):
    """In texts that leave their loop, and in texts that end in it."""

    @hypothesis.settings(max_examples=100)
    @hypothesis.given(texts(leaves=leaves))
    def check(text):
      self.assertEqual(found(which, text), expected(which, text))

    check()

  def test_the_worked_example(self):
    text = [7, 0, 1, 0, 1, 0, 1, 8]
    self.assertEqual(found("first", text), (1, 7, 2))
    self.assertEqual(found("tail", text), NONE)
    self.assertEqual(found("tail", text[:-1]), (1, 7, 2))

  def test_the_first_is_not_the_last_and_the_smallest_period_is_not_the_longest_cycle(self):
    text = [0, 1] * 3 + [2, 2, 2, 3] * 3 + [2, 2, 2]
    self.assertEqual(found("first", text), (0, 6, 2))
    self.assertEqual(found("tail", text), (18, 21, 1))  # not (6, 21, 4)

  @parameterized.parameters(*WHOLE)
  def test_what_is_no_token_repeats_nothing(self, which):
    self.assertEqual(found(which, [-1] * 9), NONE)
    self.assertEqual(found(which, [0, 1, -1] * 5), NONE)
    ended = [0, 1] * 5 + [2] + [-1] * 4  # a walk that left its loop, ended and was padded
    self.assertEqual(found(which, ended), (0, 10, 2) if which == "first" else NONE)

  @parameterized.parameters(*WHOLE)
  def test_the_shortest_text(self, which):
    self.assertEqual(found(which, [5, 5, 5]), (0, 3, 1))
    self.assertEqual(found(which, [5, 5, 4]), NONE)


class GrowingTextTest(absltest.TestCase):
  @hypothesis.settings(max_examples=15)
  @hypothesis.given(text=texts(), window=st.integers(3, LENGTH), min_length=st.integers(0, 20))
  def test_the_twin_of_the_offline_detector(self, text, window, min_length):
    """The smallest period of the cycles that reach the end of the last `window` tokens."""
    hypothesis.assume(min_length <= window)
    periods = cycles.tail_period(followed(jnp.array(text)[None, None])[:, 0], window, min_length)[:, 0].tolist()
    for step in range(LENGTH):
      tails = [c for c in locked_cycles(text[: step + 1][-window:], min_length=min_length) if c.is_tail]
      self.assertEqual(periods[step], min((c.period for c in tails), default=0))

  @hypothesis.given(text=texts())
  def test_the_twin_of_the_online_detector(self, text):
    watch = online.CycleWatch(LENGTH, min_length=6)
    periods = cycles.tail_period(followed(jnp.array(text)[None, None])[:, 0], LENGTH, 6)[:, 0].tolist()
    for step, token in enumerate(text):
      self.assertEqual(periods[step] > 0, watch.append(token) is not None)


if __name__ == "__main__":
  absltest.main()
