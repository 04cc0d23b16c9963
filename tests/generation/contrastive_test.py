"""Contrastive decoding and contrastive search in a rollout, against the same rules in plain Python."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation import contrastive_decoding, contrastive_search, generate
from loopjax.generation.generate import Decoder, Rules
from loopjax.generation.processors import Prompt, Sizes
from loopjax.generation.processors.contrastive_decoding import ContrastiveDecoding
from loopjax.generation.processors.contrastive_search import ContrastiveSearch
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import Generation, by_name

SIZES = Sizes(num_prompts=6, num_columns=3, vocabulary=6, length=15)
WIDTH = 4


class Recurrent:
  """A small recurrent model: h' = tanh(h W + embedding of the token), logits = h' U."""

  def __init__(self, seed: int):
    rng = np.random.default_rng(seed)
    self.mix, self.embedding, self.head = (
      rng.normal(size=shape).astype(np.float32) for shape in ((WIDTH, WIDTH), (6, WIDTH), (WIDTH, 6))
    )
    self.start = rng.normal(size=(SIZES.num_prompts, WIDTH)).astype(np.float32)  # a prompt's

  def read(self, hidden, token):
    return np.tanh(hidden @ self.mix + self.embedding[token])

  @property
  def decoder(self) -> Decoder:
    def step(hidden, tokens, index):
      hidden = jnp.tanh(hidden @ self.mix + jnp.asarray(self.embedding)[tokens])
      return hidden @ self.head, hidden

    return Decoder(lambda: jnp.broadcast_to(self.start[:, None], (*SIZES.rows, WIDTH)), step)


def walk(decoder: Decoder, generation: Generation) -> np.ndarray:
  @jax.jit
  def run(columns):
    rules = Rules(generation.processors, columns.strengths, jnp.full(SIZES.rows, -1))
    first, keys = jnp.zeros(SIZES.rows, jnp.int32), columns.keys(jax.random.key(0))
    prompt = Prompt(jnp.zeros((SIZES.num_prompts, 1), jnp.int32))
    begun = generate.begin(decoder, rules, prompt, first, keys, vocabulary=SIZES.vocabulary, length=SIZES.length)
    return generate.advance(decoder, rules, begun, num_steps=SIZES.length - 1).tokens

  return np.asarray(run(generation.traced()))


def softmax(x: np.ndarray) -> np.ndarray:
  return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def greedy(strengths: tuple[float, ...], processor) -> Generation:
  return by_name((processor, Temperature()), [{processor.name: s, "temperature": 0.0} for s in strengths])


class ContrastiveTest(parameterized.TestCase):
  def test_decoding(self):
    expert, amateur, strengths = Recurrent(0), Recurrent(100), (0.0, 0.5, 1.0)
    decoder = contrastive_decoding.beside(expert.decoder, amateur.decoder, SIZES)
    found = walk(decoder, greedy(strengths, ContrastiveDecoding()))
    for g, r in np.ndindex(*SIZES.rows):
      states, text = [expert.start[g], amateur.start[g]], [0]
      while len(text) < SIZES.length:
        states = [model.read(h, text[-1]) for model, h in zip((expert, amateur), states, strict=True)]
        ours, theirs = (softmax(h @ model.head) for model, h in zip((expert, amateur), states, strict=True))
        score = np.log(ours) - strengths[r] * np.log(theirs)
        score[(ours < 0.1 * ours.max()) & (strengths[r] > 0)] = -np.inf
        text.append(int(np.argmax(score)))
      self.assertEqual(found[g, r].tolist(), text)
    self.assertFalse(np.array_equal(found[:, 0], found[:, 2]))

  @parameterized.parameters((3, False), (3, True), (6, False))
  def test_search(self, k, with_prompt):
    model, strengths = Recurrent(k), (0.0, 0.3, 0.6)
    prompt = np.random.default_rng(0).normal(size=(SIZES.num_prompts, 3, WIDTH)).astype(np.float32)
    prompt[:, 1] = 0.0  # padding
    given = jnp.array(prompt) if with_prompt else None
    decoder = contrastive_search.looking_ahead(model.decoder, lambda hidden: hidden, SIZES, k=k, prompt=given)
    found = walk(decoder, greedy(strengths, ContrastiveSearch()))
    for g, r in np.ndindex(*SIZES.rows):
      hidden, text, past = model.start[g], [0], [*prompt[g, [0, 2]]] if with_prompt else []
      while len(text) < SIZES.length:
        hidden = model.read(hidden, text[-1])
        past.append(hidden)
        probs = softmax(hidden @ model.head)
        text.append(self.best(model, hidden, probs, past, k if strengths[r] else 1, strengths[r]))
      self.assertEqual(found[g, r].tolist(), text)

  def best(self, model, hidden, probs, past, k: int, alpha: float) -> int:
    def score(v: int) -> float:
      ahead = model.read(hidden, v)
      cosines = [ahead @ h / np.linalg.norm(ahead) / np.linalg.norm(h) for h in past]
      return (1 - alpha) * probs[v] - alpha * max(cosines)

    return int(max(np.argsort(-probs)[:k], key=score))

  def test_both_at_once(self):
    expert, amateur = Recurrent(5), Recurrent(6)
    ahead = contrastive_search.looking_ahead(expert.decoder, lambda hidden: hidden, SIZES)
    decoder = contrastive_decoding.beside(ahead, amateur.decoder, SIZES)
    columns = [{"temperature": 0.0}, {"contrastive_decoding": 1.0}, {"contrastive_search": 0.6}]
    found = walk(decoder, by_name((ContrastiveDecoding(), ContrastiveSearch(), Temperature()), columns))
    alone = walk(ahead, greedy((0.6,) * 3, ContrastiveSearch()))
    np.testing.assert_array_equal(found[:, 2], alone[:, 2])

  @parameterized.parameters(0, 7)
  def test_candidates_that_there_are_not(self, k):
    with self.assertRaisesRegex(ValueError, f"^k={k} .* from 1 to 6"):
      contrastive_search.looking_ahead(Recurrent(0).decoder, lambda hidden: hidden, SIZES, k=k)


if __name__ == "__main__":
  absltest.main()
