"""Processors in a rollout: a grid in one program, order, ends, temperature 0, and the text that they are told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation import generate
from loopjax.generation.generate import Decoder, Rules
from loopjax.generation.processors import Prompt
from loopjax.generation.processors.early_stop import EarlyStop
from loopjax.generation.processors.no_repeat_ngram import NoRepeatNgram
from loopjax.generation.processors.repetition_penalty import RepetitionPenalty
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import Generation, at_temperatures, by_name
from tests.generation.along import MAY_BAN_ALL, ONE_OF_EACH, SHORT, STRENGTHS, reads

VOCABULARY, LENGTH, PROMPTS = 5, 24, 2
PROMPT = Prompt(jnp.array([[3, 3], [0, 2]]))
NOT_HERE = ("contrastive_decoding", "contrastive_search", "temperature")  # a decoder of theirs; it is the last one here
PROCESSORS = tuple(p for p in ONE_OF_EACH if p.name not in NOT_HERE)
MAY_STOP = tuple(p.name for p in PROCESSORS if p.name in MAY_BAN_ALL)


def cycling() -> Decoder:
  """Prefers the token after the one it reads, in a cycle of three; the state counts its calls."""

  def step(state, tokens, index):
    slope = -0.1 * jnp.arange(float(VOCABULARY))
    return 3.0 * jax.nn.one_hot((tokens + 1) % 3, VOCABULARY) + slope[None, None], state + 1

  return Decoder(lambda: jnp.int32(0), step)


def program(generation: Generation, length: int = LENGTH):
  """A jitted (columns, key) -> the continuations at their end."""

  @jax.jit
  def run(columns, key):
    rules = Rules(generation.processors, columns.strengths, jnp.full((PROMPTS, generation.num_columns), -1))
    first = jnp.zeros((PROMPTS, generation.num_columns), jnp.int32)
    keys = columns.keys(key)
    begun = generate.begin(cycling(), rules, PROMPT, first, keys, vocabulary=VOCABULARY, length=length)
    return generate.advance(cycling(), rules, begun, num_steps=length - 1)

  return run


def walk(generation: Generation, seed: int = 0):
  return program(generation)(generation.traced(), jax.random.key(seed))


class GridTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    """Greedy, with every processor in turn; then all again at temperature 1."""
    super().setUpClass()
    cls.strength = {processor.name: STRENGTHS[processor.name][0] for processor in PROCESSORS}
    names = ["", *(processor.name for processor in PROCESSORS)]
    cls.columns = [
      {"temperature": t} | {n: cls.strength[n] for n in (name,) if n} for t in (0.0, 1.0) for name in names
    ]
    cls.generation = by_name((*PROCESSORS, Temperature()), cls.columns)
    cls.walking = staticmethod(program(cls.generation))
    cls.walked = jax.device_get(cls.walking(cls.generation.traced(), jax.random.key(0)))

  def column(self, name: str, temperature: float) -> int:
    wanted = {"temperature": temperature} | ({name: self.strength[name]} if name else {})
    return self.columns.index(wanted)

  def test_another_grid_of_strengths_compiles_nothing(self):
    halved = [
      {name: self.strength[name] / 2 if name in ("dry", "lz_penalty") else s for name, s in c.items()}
      for c in self.columns
    ]
    self.walking(by_name((*PROCESSORS, Temperature()), halved).traced(), jax.random.key(1))
    self.assertEqual(self.walking._cache_size(), 1)

  @parameterized.parameters(0, 1, 2, 3)
  def test_a_column_is_what_its_processor_does_without_the_others(self, group):
    """Neutral ones do nothing to it, not even to its draws."""
    few = PROCESSORS[group::4]
    columns = [{p.name: self.strength[p.name], "temperature": t} for p in few for t in (0.0, 1.0)]
    found = walk(by_name((*few, Temperature()), columns)).tokens
    for place, column in enumerate(columns):
      np.testing.assert_array_equal(found[:, place], self.walked.tokens[:, self.columns.index(column)], str(column))

  def test_greedy_decoding_loops_and_all_that_act_on_loops_break_it(self):
    loop = np.resize([0, 1, 2], LENGTH)
    np.testing.assert_array_equal(self.walked.tokens[:, self.column("", 0.0)], np.stack([loop] * PROMPTS))
    breaks = {n for n in self.strength if np.any(self.walked.tokens[:, self.column(n, 0.0)] != loop)}
    # What neither reads the text nor draws at random cannot; the presence penalty takes as much off all of the loop.
    may = {p.name for p in PROCESSORS if reads(p)} - {"presence_penalty"}
    self.assertContainsSubset(breaks, may)
    self.assertContainsSubset({"dry", "early_stop", "frequency_penalty", "loop_temperature", "no_repeat_ngram"}, breaks)

  def test_no_token_is_made_up(self):
    """Where all are banned the row ends and is flagged: the argmax of nothing would be token 0."""
    tokens, stuck = self.walked.tokens, self.walked.stuck
    self.assertTrue(np.all((tokens >= 0) | (tokens == generate.NO_TOKEN)))
    np.testing.assert_array_equal(np.any(tokens == generate.NO_TOKEN, axis=-1), stuck)
    for name in self.strength.keys() - {*MAY_STOP}:
      ends = np.any(stuck[:, [self.column(name, t) for t in (0.0, 1.0)]])
      self.assertFalse(
        ends, f"{name} bans every token. If it is meant to, enter it in MAY_BAN_ALL in tests/generation/along.py."
      )

  def test_early_stop_ends_a_row_at_the_third_repetition(self):
    column = self.column("early_stop", 0.0)
    self.assertTrue(np.all(self.walked.stuck[:, column]) and np.all(self.walked.ended[:, column]))
    np.testing.assert_array_equal(self.walked.tokens[:, column, :9], np.resize([0, 1, 2], (PROMPTS, 9)))
    np.testing.assert_array_equal(self.walked.tokens[:, column, 9:], generate.NO_TOKEN)

  def test_any_order_runs_and_orders_differ(self):
    all_at_once = {p.name: self.strength[p.name] for p in PROCESSORS if p.name not in MAY_STOP}
    columns = [all_at_once | {"temperature": t} for t in (0.0, 0.7)]
    backwards = walk(by_name((Temperature(), *reversed(PROCESSORS)), columns)).tokens
    many = by_name((*PROCESSORS, Temperature()), (columns * len(self.columns))[: len(self.columns)])
    forwards = self.walking(many.traced(), jax.random.key(0)).tokens[:, :2]
    self.assertTrue(np.all(backwards >= 0) and np.all(forwards >= 0))
    self.assertFalse(np.array_equal(backwards, forwards))


class TextTest(parameterized.TestCase):
  def test_newest_first(self):
    tokens = jnp.array([[[4, 5, 6, 7]]])
    for step, expected in enumerate(([4, -1, -1, -1], [5, 4, -1, -1], [6, 5, 4, -1], [7, 6, 5, 4])):
      self.assertEqual(generate.newest_first(tokens, step)[0, 0].tolist(), expected)

  def test_the_shortest_and_the_all_banned(self):
    generation = at_temperatures((0.0, 1.0), *SHORT.values(), NoRepeatNgram())
    run = program(generation, length=2)(generation.traced(), jax.random.key(0))
    self.assertEqual(run.tokens.shape, (PROMPTS, 2, 2))
    walked = walk(Generation((NoRepeatNgram(), Temperature()), ((1.0, 0.0),)))
    np.testing.assert_array_equal(np.sum(walked.tokens >= 0, axis=-1), VOCABULARY)  # each token once, then none
    self.assertTrue(np.all(walked.stuck))


class SettingsTest(parameterized.TestCase):
  @parameterized.parameters(
    ((Temperature(), Temperature()), ((1.0, 1.0),), "^processors=.* each of them once"),
    ((Temperature(),), (), "^columns=.* one or more"),
    ((Temperature(),), ((-1.0,),), "^temperature=-1.0 .* at least 1e-06"),
    ((RepetitionPenalty(),), ((float("nan"),),), "^repetition_penalty=nan .* finite"),
    ((EarlyStop(),), ((1.0,),), "^early_stop=1.0 .* at least 2"),
    ((Temperature(),), ((1.0, 2.0),), r"^columns=\(1.0, 2.0\) .* a strength for each of \['temperature'\]"),
  )
  def test_what_is_refused(self, processors, columns, message):
    with self.assertRaisesRegex(ValueError, message):
      Generation(processors, columns)


if __name__ == "__main__":
  absltest.main()
