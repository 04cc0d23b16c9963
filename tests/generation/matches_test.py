"""Match lengths against brute force, and texts that loop for the tests of what reads them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.generation import generate, matches
from loopjax.generation.processors import Context, Prompt, Sizes
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


def loop_of(draw, leaves: bool = True) -> list[int]:
  """A text that goes into a loop, and leaves it where there is room and `leaves`."""
  small = st.integers(0, 2)
  text = draw(st.lists(small, max_size=12))
  block = draw(st.lists(small, min_size=1, max_size=8))
  text += block * (draw(st.integers(1, LENGTH // len(block))) if leaves else LENGTH)
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


if __name__ == "__main__":
  absltest.main()
