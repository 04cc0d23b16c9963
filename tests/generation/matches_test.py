"""Match lengths and the online detector: against brute force, and against the cycles of `loopjax.loops`."""

from __future__ import annotations

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.generation import generate, matches
from loopjax.generation.processors import Context, Prompt, Sizes
from loopjax.loops import cycles, online
from tests.generation.brute_force import common_end

LENGTH = 36


@jax.jit
def followed(tokens: jax.Array, prompt: jax.Array | None = None) -> jax.Array:
  """The match lengths [W, G, R, L] after every token of `tokens` [G, R, W]."""

  def step(state, index):
    context = Context(tokens[..., index], index, None, generate.newest_first(tokens, index))
    state, _ = matches.follow(state, context)
    return state, state.lengths

  given = None if prompt is None else Prompt(prompt)
  return jax.lax.scan(step, matches.begin(Sizes(*tokens.shape[:2], 9, LENGTH), given), jnp.arange(LENGTH))[1]


def loop_of(draw) -> list[int]:
  """A text that goes into a loop, and may leave it."""
  small = st.integers(0, 2)
  text = draw(st.lists(small, max_size=12))
  block = draw(st.lists(small, min_size=1, max_size=8))
  text += block * draw(st.integers(1, LENGTH // len(block)))
  return (text + draw(st.lists(small, min_size=LENGTH, max_size=LENGTH)))[:LENGTH]


class MatchesTest(parameterized.TestCase):
  def test_the_worked_example(self):
    text = jnp.array([[[0, 1, 7, 0, 1] + [-1] * (LENGTH - 5)]])
    lengths = np.asarray(followed(text))[4, 0, 0]
    self.assertEqual(lengths[:4].tolist(), [0, 0, 2, 0])

  @parameterized.parameters(False, True)
  def test_lengths(self, prompt_counts):
    rng = np.random.default_rng(0)
    tokens, prompt = rng.integers(2, size=(2, 3, LENGTH)), rng.integers(2, size=(2, 5))
    found = np.asarray(followed(jnp.array(tokens), jnp.array(prompt) if prompt_counts else None))
    for g, r in np.ndindex(2, 3):
      for step in range(LENGTH):
        text = prompt[g].tolist() * prompt_counts + tokens[g, r, : step + 1].tolist()
        expected = [common_end(text[:-lag], text) for lag in range(1, len(text))]
        self.assertEqual(found[step, g, r, : len(text) - 1].tolist(), expected)
        self.assertFalse(np.any(found[step, g, r, len(text) - 1 :]))

  @hypothesis.settings(max_examples=15)
  @hypothesis.given(data=st.data(), window=st.integers(3, LENGTH), min_length=st.integers(0, 20))
  def test_the_twin_of_the_offline_detector(self, data, window, min_length):
    """The smallest period of the cycles that reach the end of the last `window` tokens."""
    hypothesis.assume(min_length <= window)
    text = loop_of(data.draw)
    found = matches.tail_period(followed(jnp.array(text)[None, None])[:, 0], window, min_length)[:, 0].tolist()
    for step in range(LENGTH):
      tails = [c for c in cycles.locked_cycles(text[: step + 1][-window:], min_length=min_length) if c.is_tail]
      self.assertEqual(found[step], min((c.period for c in tails), default=0))

  @hypothesis.given(data=st.data())
  def test_the_twin_of_the_online_detector(self, data):
    text, watch = loop_of(data.draw), online.CycleWatch(LENGTH, min_length=6)
    found = matches.tail_period(followed(jnp.array(text)[None, None])[:, 0], LENGTH, 6)[:, 0].tolist()
    for step, token in enumerate(text):
      self.assertEqual(found[step] > 0, watch.append(token) is not None)

  def test_repetitions_are_those_of_loops(self):
    self.assertEqual(matches.REPETITIONS, cycles.REPETITIONS)


if __name__ == "__main__":
  absltest.main()
