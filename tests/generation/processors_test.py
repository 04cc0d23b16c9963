"""Processors against brute force in plain Python at every step of random texts; random ones against their laws."""

from __future__ import annotations

import jax
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation.processors.dry import Dry
from loopjax.generation.processors.early_stop import EarlyStop
from loopjax.generation.processors.loop_temperature import LoopTemperature
from loopjax.generation.processors.lz_penalty import LzPenalty
from loopjax.generation.processors.no_repeat_ngram import NoRepeatNgram
from loopjax.generation.processors.repetition_aware import RepetitionAware
from loopjax.generation.processors.repetition_penalty import RepetitionPenalty
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.processors.xtc import Xtc
from loopjax.loops import cycles
from tests.generation import brute_force
from tests.generation.along import Case, processed

VOCABULARY, LENGTH, ROWS = 6, 40, 50


def texts(seed: int, *, tokens: int = 3, rows: int = ROWS) -> Case:
  """Texts of few tokens, most of which go into a loop of a period up to 8 and leave it again; random logits."""
  rng = np.random.default_rng(seed)
  drawn = rng.integers(tokens, size=(1, rows, LENGTH))
  for row in drawn[0]:
    start, end, period = rng.integers(20), rng.integers(20, LENGTH + 10), rng.integers(1, 9)
    row[start:end] = np.resize(row[start : start + period], len(row[start:end]))
  logits = rng.normal(size=(LENGTH, 1, rows, VOCABULARY)).astype(np.float32)
  prompt = rng.integers(tokens, size=(1, 7))
  return Case(drawn, logits, prompt, {}, jax.random.split(jax.random.key(seed), rows))


def steps(given: Case):
  """Every step and row, and what was read by then."""
  for step, r in np.ndindex(*given.logits.shape[::2]):
    yield step, r, given.tokens[0, r, : step + 1].tolist()


def banned(logits: np.ndarray) -> set[int]:
  return set(np.flatnonzero(np.isneginf(logits)).tolist())


class BruteForceTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_repetition_penalty(self, prompt_counts):
    given, penalties = texts(0, tokens=VOCABULARY), np.linspace(0.5, 3, ROWS)
    found = processed(RepetitionPenalty(prompt_counts), penalties, given)
    for step, r, history in steps(given):
      seen, own = set(history + given.prompt[0].tolist() * prompt_counts), given.logits[step, 0, r]
      expected = [(l / penalties[r] if l >= 0 else l * penalties[r]) if v in seen else l for v, l in enumerate(own)]
      np.testing.assert_allclose(found[step, 0, r], expected, rtol=1e-5)

  @parameterized.parameters(False, True)
  def test_no_repeat_ngram(self, prompt_counts):
    given, lengths = texts(1), np.arange(ROWS) % 6
    found = processed(NoRepeatNgram(prompt_counts), lengths, given)
    for step, r, history in steps(given):
      text = given.prompt[0].tolist() * prompt_counts + history
      self.assertEqual(banned(found[step, 0, r]), brute_force.ngram_banned(text, lengths[r], VOCABULARY))

  @parameterized.parameters(False, True)
  def test_dry(self, prompt_counts):
    given = texts(2)
    found = given.logits - processed(Dry(prompt_counts=prompt_counts), np.ones(ROWS), given)
    for step, r, history in steps(given):
      text = given.prompt[0].tolist() * prompt_counts + history
      expected = brute_force.dry_penalties(text, VOCABULARY, 1.75, 2)
      np.testing.assert_allclose(found[step, 0, r], expected, rtol=1e-4, atol=1e-5)

  @parameterized.parameters((512, 32), (512, 3), (9, 2), (17, 32))
  def test_lz_penalty(self, window, buffer):
    given = texts(3)
    found = given.logits - processed(LzPenalty(window, buffer), np.ones(ROWS), given)
    for step, r, history in steps(given):
      expected = brute_force.lz_penalties(history, VOCABULARY, window, buffer)
      np.testing.assert_allclose(found[step, 0, r], expected, atol=1e-5)

  def test_lz_penalty_is_the_forks_where_that_counts_all_of_a_text(self):
    """The fork leaves out the first `buffer` tokens: so many that never come again stand before the text."""
    given, never = texts(4), VOCABULARY - 1
    found = given.logits - processed(LzPenalty(512, 5), np.ones(ROWS), given)
    for step, r, history in steps(given):
      expected = brute_force.lz_penalties([never] * 5 + history, VOCABULARY, 512, 5, as_fork=True)
      np.testing.assert_allclose(found[step, 0, r], expected, atol=1e-5)

  def test_early_stop(self):
    given, counts = texts(5), np.array([0, 2, 3, 4, 5])[np.arange(ROWS) % 5]
    found = processed(EarlyStop(longest=6, shortest=2), counts, given)
    stopped = np.isneginf(found).all(axis=-1)[:, 0]
    np.testing.assert_array_equal(found[~stopped[:, None]], given.logits[~stopped[:, None]])
    for step, r, history in steps(given):
      self.assertEqual(stopped[step, r], counts[r] >= 2 and brute_force.repeats(history, 2, 6, counts[r]))
    self.assertBetween(stopped.mean(), 0.1, 0.9)

  def test_loop_temperature_is_on_while_and_after_the_text_is_in_a_locked_cycle(self):
    given, strengths = texts(6), np.where(np.arange(ROWS) % 5, 2.0, 0.0)
    processor = LoopTemperature(window=15, min_length=7, steps=3, half_life=2, coldest=0.6)  # 2, 1.41, 1, 0.71, 0.5
    is_hot = np.isneginf(processed(processor, strengths, given)).any(axis=-1)[:, 0]
    since = dict.fromkeys(range(ROWS), LENGTH)
    for step, r, history in steps(given):
      since[r] = 0 if any(c.is_tail for c in cycles.locked_cycles(history[-15:], min_length=7)) else since[r] + 1
      self.assertEqual(is_hot[step, r], strengths[r] > 0 and since[r] < 3 + 3)
    self.assertBetween(is_hot.mean(), 0.1, 0.9)

  def test_temperature(self):
    given = texts(7, rows=2)
    given.logits[0, 0, 0, :2] = 5.0  # a tie: the smaller token's
    found = processed(Temperature(), (0.0, 0.5), given)[:, 0]
    np.testing.assert_allclose(found[:, 1], given.logits[:, 0, 1] / 0.5)
    np.testing.assert_array_equal(np.isfinite(found[:, 0]).sum(axis=-1), 1)
    np.testing.assert_array_equal(np.argmax(found[:, 0], axis=-1), np.argmax(given.logits[:, 0, 0], axis=-1))


class LawsTest(parameterized.TestCase):
  """Random processors: how often they do what, over rows that differ in their keys alone."""

  ROWS = 4000
  LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05]))

  def shares(self, processor, strength: float, text: list[int]) -> tuple[np.ndarray, float]:
    """How often each token was the only one left, [V], and how often nothing happened."""
    logits = np.broadcast_to(self.LOGITS.astype(np.float32), (2 * len(text), 1, self.ROWS, 5))
    tokens = np.broadcast_to(np.array(text * 2), (1, self.ROWS, 2 * len(text)))
    given = Case(tokens, logits, np.zeros((1, 0), int), {}, jax.random.split(jax.random.key(0), self.ROWS))
    found = processed(processor, (strength,) * self.ROWS, given)[len(text) - 1, 0]
    unchanged = np.all(found == logits[0, 0], axis=-1)
    left = np.isfinite(found[~unchanged])
    return np.bincount(np.argmax(left, axis=-1), minlength=5) / self.ROWS, float(unchanged.mean())

  def assert_shares(self, found, expected) -> None:
    expected = np.asarray(expected)
    np.testing.assert_array_less(np.abs(found - expected), 4 * np.sqrt(0.25 / self.ROWS) + 1e-9)
    np.testing.assert_array_equal(np.asarray(found) == 0, expected == 0)

  def test_repetition_aware_sampling(self):
    """The nucleus of 0.8 is 0, 1, 2, with probabilities 0.47, 0.35, 0.18. Token 1 was read too often."""
    text = [1, 3, 1, 4, 0, 4, 4, 1]
    drawn, unchanged = self.shares(RepetitionAware(window=8), 3 / 8, text)
    self.assert_shares(drawn, [0.4 / 0.85, 0, 0.15 / 0.85, 0, 0])
    self.assert_shares([unchanged], [0.3 / 0.85])
    drawn, unchanged = self.shares(RepetitionAware(window=8), 1.0, text)  # not so often
    self.assert_shares([*drawn, unchanged], [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0, 0])

  def test_loop_temperature(self):
    """At temperature 2 probabilities go as their square roots."""
    drawn, unchanged = self.shares(LoopTemperature(), 2.0, [0, 1] * 3)
    hot = np.sqrt(np.exp(self.LOGITS))
    self.assert_shares([*drawn, unchanged], [*(hot / hot.sum()), 0])

  def test_xtc(self):
    """0.15 is the least of the likely tokens: 0 and 1 are dropped, in three of ten rows."""
    drawn, unchanged = self.shares(Xtc(threshold=0.12), 0.3, [0])
    self.assert_shares([*drawn, unchanged], [0, 0, 0.3, 0, 0, 0.7])


if __name__ == "__main__":
  absltest.main()
