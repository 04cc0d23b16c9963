"""Logits processors against brute force in plain Python, over sequences of steps; and what users reported elsewhere."""

from __future__ import annotations

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.generation import generate
from loopjax.generation.generate import Decoder, Rules
from loopjax.generation.processors import PROCESSORS, Context, Prompt
from loopjax.generation.processors.no_repeat_ngram import NoRepeatNgram
from loopjax.generation.processors.repetition_penalty import RepetitionPenalty
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import Generation

VOCABULARY, LENGTH = 4, 12
PROMPT = Prompt(jnp.array([[3, 3], [0, 2]]))
ALL = (Temperature(), RepetitionPenalty(VOCABULARY), NoRepeatNgram(largest=4))


def processed(processor, strength, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
  """The logits [W, G, R, V] of every step after the processor, along tokens [G, R, W]."""

  def step(state, read):
    here, own, index = read
    return processor.apply(jnp.asarray(strength, jnp.float32), state, own, Context(here, index, None))

  state = processor.init(PROMPT, tokens.shape[:2], LENGTH)
  given = jnp.moveaxis(jnp.asarray(tokens), -1, 0), jnp.asarray(logits), jnp.arange(tokens.shape[-1])
  return np.asarray(jax.jit(lambda s: jax.lax.scan(step, s, given)[1])(state))


def penalised(history: list[int], logits: list[float], penalty: float) -> list[float]:
  return [(l / penalty if l >= 0 else l * penalty) if v in history else l for v, l in enumerate(logits)]


def banned(history: list[int], n: int) -> set[int]:
  """The tokens that would complete an n-gram of the history."""
  if n < 1 or len(history) < n:
    return set()
  had = [tuple(history[i : i + n]) for i in range(len(history) - n + 1)]
  return {v for v in range(VOCABULARY) if (*history[len(history) - n + 1 :], v) in had}


@st.composite
def cases(draw):
  tokens = draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=4 * LENGTH, max_size=4 * LENGTH))
  seed = draw(st.integers(0, 99))
  logits = np.random.default_rng(seed).normal(size=(LENGTH, 2, 2, VOCABULARY)).astype(np.float32)
  return np.array(tokens).reshape(2, 2, LENGTH), logits


class BruteForceTest(parameterized.TestCase):
  @hypothesis.settings(deadline=None, max_examples=30)
  @hypothesis.given(case=cases(), penalties=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)))
  def test_repetition_penalty(self, case, penalties):
    tokens, logits = case
    for prompt_counts in (False, True):
      found = processed(RepetitionPenalty(VOCABULARY, prompt_counts), penalties, tokens, logits)
      for step, g, r in np.ndindex(LENGTH, 2, 2):
        seen = tokens[g, r, : step + 1].tolist() + (PROMPT.tokens[g].tolist() if prompt_counts else [])
        expected = penalised(seen, logits[step, g, r].tolist(), penalties[r])
        np.testing.assert_allclose(found[step, g, r], expected, rtol=1e-5)

  @hypothesis.settings(deadline=None, max_examples=30)
  @hypothesis.given(case=cases(), lengths=st.tuples(st.integers(0, 4), st.integers(0, 4)))
  def test_no_repeat_ngram(self, case, lengths):
    tokens, logits = case
    found = processed(NoRepeatNgram(largest=4), lengths, tokens, logits)
    for step, g, r in np.ndindex(LENGTH, 2, 2):
      expected = banned(tokens[g, r, : step + 1].tolist(), lengths[r])
      self.assertEqual(set(np.flatnonzero(np.isneginf(found[step, g, r]))), expected)
      kept = np.isfinite(found[step, g, r])
      np.testing.assert_array_equal(found[step, g, r][kept], logits[step, g, r][kept])

  def test_temperature(self):
    logits = np.random.default_rng(0).normal(size=(1, 2, 2, VOCABULARY)).astype(np.float32)
    logits[0, 0, 0, :2] = 5.0  # a tie: the smaller token's
    found = processed(Temperature(), (0.0, 0.5), np.zeros((2, 2, 1), int), logits)[0]
    np.testing.assert_allclose(found[:, 1], logits[0, :, 1] / 0.5)
    self.assertEqual(np.isfinite(found[:, 0]).sum(axis=-1).tolist(), [1, 1])
    np.testing.assert_array_equal(np.argmax(found[:, 0], axis=-1), np.argmax(logits[0, :, 0], axis=-1))


class PropertiesTest(parameterized.TestCase):
  @parameterized.parameters(*ALL)
  def test_the_neutral_strength_changes_nothing_and_another_does(self, processor):
    tokens = np.array([[[0, 1] * 6] * 2] * 2)  # a loop: every knob must show there
    logits = np.random.default_rng(1).normal(size=(LENGTH, 2, 2, VOCABULARY)).astype(np.float32)
    neutral, other = (processed(processor, (strength,) * 2, tokens, logits) for strength in (processor.neutral, 2.0))
    np.testing.assert_array_equal(neutral, logits)
    self.assertFalse(np.array_equal(other, logits))

  def test_a_penalty_never_raises_what_was_seen_and_counts_a_token_once(self):
    logits = np.random.default_rng(2).normal(size=(LENGTH, 2, 2, VOCABULARY)).astype(np.float32)
    once = np.full((2, 2, LENGTH), 1)
    once[..., 1:] = 2
    found = processed(RepetitionPenalty(VOCABULARY), (1.5, 1.5), once, logits)
    self.assertTrue(np.all(found <= logits))
    expected = np.where(logits > 0, logits / 1.5, logits * 1.5)
    np.testing.assert_allclose(found[5:, ..., 1], expected[5:, ..., 1], rtol=1e-6)

  def test_of_log_probabilities_an_offset_does_not_matter(self):
    tokens = np.zeros((2, 2, LENGTH), int)
    logits = np.random.default_rng(3).normal(size=(LENGTH, 2, 2, VOCABULARY)).astype(np.float32)
    for of_log_probabilities in (False, True):
      processor = RepetitionPenalty(VOCABULARY, of_log_probabilities=of_log_probabilities)
      plain, shifted = (jax.nn.softmax(processed(processor, (1.5,) * 2, tokens, logits + c)) for c in (0.0, 5.0))
      self.assertEqual(np.allclose(plain, shifted, atol=1e-5), of_log_probabilities)

  def test_names(self):
    known = {
      processor.name: type(processor) for processor in ALL
    }  # a new one comes here: its neutral strength is tested
    self.assertLessEqual(known.items(), PROCESSORS.items())
    with self.assertRaisesRegex(ValueError, "^no_repeat_ngram.largest=0 .* at least 1"):
      NoRepeatNgram(largest=0)
    for processors, columns, message in (
      ((Temperature(), Temperature()), ((1.0, 1.0),), "^processors=.* each of them once"),
      ((Temperature(),), (), "^columns=.* one or more"),
      ((Temperature(),), ((-1.0,),), "^temperature=-1.0 .* at least 0"),
      ((RepetitionPenalty(4),), ((float("nan"),),), "^repetition_penalty=nan .* finite"),
      ((Temperature(),), ((1.0, 2.0),), r"^columns=\(1.0, 2.0\) .* a strength for each of \['temperature'\]"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        Generation(processors, columns)


def cycling() -> Decoder:
  """Prefers the token after the one it reads, in a cycle of three; the state counts its calls."""

  def step(state, tokens, index):
    return 3.0 * jax.nn.one_hot((tokens + 1) % 3, VOCABULARY), state + 1

  return Decoder(lambda: jnp.int32(0), step)


class GridTest(absltest.TestCase):
  def test_a_grid_of_strengths_in_one_program_does_in_every_column_what_it_does_alone(self):
    processors = (RepetitionPenalty(VOCABULARY), NoRepeatNgram(largest=4), Temperature())
    columns = ((1.0, 0.0, 0.0), (1.0, 2.0, 0.0), (3.0, 0.0, 1.0), (1.0, 3.0, 1.0))

    def walk(generation: Generation) -> np.ndarray:
      columns = generation.traced()
      rules = Rules(generation.processors, columns.strengths, jnp.full((2, generation.num_columns), -1))
      first = jnp.zeros((2, generation.num_columns), jnp.int32)

      @jax.jit
      def run(key):
        begun = generate.begin(cycling(), rules, PROMPT, first, columns.keys(key), vocabulary=VOCABULARY, length=LENGTH)
        return generate.advance(cycling(), rules, begun, num_steps=LENGTH - 1)

      return np.asarray(run(jax.random.key(0)).tokens)

    together = walk(Generation(processors, columns))
    self.assertEqual(together[0, 0].tolist(), [0, 1, 2] * 4)
    self.assertEqual(together[0, 1, :4].tolist(), [0, 1, 2, 0])
    self.assertNotEqual(together[0, 1, 4], 1)  # 0, 1 was there
    for place, column in enumerate(columns):
      np.testing.assert_array_equal(walk(Generation(processors, (column,)))[:, 0], together[:, place])


if __name__ == "__main__":
  absltest.main()
