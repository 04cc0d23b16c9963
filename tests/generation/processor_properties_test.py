"""What every processor keeps, held against all that are registered; most are faults that users reported elsewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation.processors import all_processors
from loopjax.generation.processors.contrastive_decoding import ContrastiveDecoding
from loopjax.generation.processors.dry import Dry
from loopjax.generation.processors.dynamic_temperature import DynamicTemperature
from loopjax.generation.processors.early_stop import EarlyStop
from loopjax.generation.processors.loop_temperature import LoopTemperature
from loopjax.generation.processors.lz_penalty import LzPenalty
from loopjax.generation.processors.no_repeat_ngram import NoRepeatNgram
from loopjax.generation.processors.repetition_aware import RepetitionAware
from loopjax.generation.processors.xtc import Xtc
from loopjax.generation.settings import Generation, by_name
from tests.generation.along import LENGTH, ONE_OF_EACH, OTHER, Case, case, processed

# Their docstrings say so: they divide an offset too, which changes no probability; or it changes what they do.
DIVIDES, DEPENDS_ON_OFFSET = ("temperature", "dynamic_temperature"), ("repetition_penalty",)
RANDOM = ("xtc", "repetition_aware", "loop_temperature")
PENALTIES = ("dry", "frequency_penalty", "lz_penalty", "presence_penalty", "probability_penalty", "repetition_penalty")

# Each field of a processor, changed; "same" stands for the one in `ONE_OF_EACH`.
FIELDS = {
  "contrastive_decoding": {"plausible": 0.5},
  "dry": {"base": 1.2, "allowed": 4, "window": 6, "breakers": (1,), "prompt_counts": True},
  "dynamic_temperature": {"exponent": 3.0},
  "early_stop": {"longest": 2, "shortest": 4},
  "frequency_penalty": {"window": 4},
  "loop_temperature": {"window": 6, "min_length": 12, "steps": 1, "half_life": 1, "coldest": 1.4},
  "lz_penalty": {"window": 4, "buffer": 1},
  "no_repeat_ngram": {"prompt_counts": True},
  "presence_penalty": {"window": 4},
  "probability_penalty": {"prompt_counts": True, "window": 4},
  "repetition_aware": {"window": 3, "top_p": 0.3},
  "repetition_penalty": {"prompt_counts": True, "window": 4},
  "xtc": {"threshold": 0.3},
}


def each() -> list[dict]:
  return [{"testcase_name": processor.name, "processor": processor} for processor in ONE_OF_EACH]


def other(processor) -> tuple[float, ...]:
  return (OTHER[processor.name],) * 3


def leaving_the_loop(given: Case) -> Case:
  """The loop of column 0 ends before the text does."""
  tokens = given.tokens.copy()
  tokens[:, 0, -8:] = given.tokens[:, 1, -8:]
  return given._replace(tokens=tokens)


class PropertiesTest(parameterized.TestCase):
  def test_all_that_are_registered_are_here(self):
    self.assertEqual(sorted(OTHER), sorted(all_processors()))
    fields = {p.name: sorted(field.name for field in dataclasses.fields(p)) for p in ONE_OF_EACH}
    self.assertEqual(
      {name: sorted(changed) for name, changed in FIELDS.items()}, {n: f for n, f in fields.items() if f}
    )

  def test_the_page_lists_them_all(self):
    page = (Path(__file__).parents[2] / "docs" / "remedies.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| (\d) \| [^|]*\|$", page, re.M)
    self.assertEqual({name: float(neutral) for name, neutral in rows}, {p.name: p.neutral for p in ONE_OF_EACH})

  @parameterized.named_parameters(each())
  def test_the_neutral_strength_changes_nothing_and_another_does(self, processor):
    for banned in (0.0, 0.5):
      given = case(banned=banned)
      np.testing.assert_array_equal(processed(processor, (processor.neutral,) * 3, given), given.logits)
      self.assertFalse(np.array_equal(processed(processor, other(processor), given), given.logits))
    processor.check(processor.neutral)
    processor.check(OTHER[processor.name])

  @parameterized.parameters(*((name, field, value) for name in FIELDS for field, value in FIELDS[name].items()))
  def test_every_field_shows(self, name, field, value):
    (processor,) = (p for p in ONE_OF_EACH if p.name == name)
    changed = dataclasses.replace(processor, **{field: value})
    given = leaving_the_loop(case())
    found = [processed(p, other(processor), given) for p in (processor, changed)]
    self.assertFalse(np.array_equal(*found), "a parameter that does nothing")

  @parameterized.named_parameters(each())
  def test_a_number_added_to_all_logits_comes_out_again(self, processor):
    given = case(banned=0.2)
    plain, shifted = (
      processed(processor, other(processor), given._replace(logits=given.logits + c)) for c in (0.0, 4.0)
    )
    if processor.name in DIVIDES + DEPENDS_ON_OFFSET:
      plain, shifted = jax.nn.log_softmax(plain), jax.nn.log_softmax(shifted) + 4.0
    same = np.allclose(shifted, plain + 4.0, atol=1e-4, rtol=1e-5)
    self.assertEqual(same, processor.name not in DEPENDS_ON_OFFSET)

  @parameterized.named_parameters(each())
  def test_a_row_alone_in_a_longer_buffer_is_the_row_in_the_batch(self, processor):
    """What lies in a buffer past the tokens read so far is never looked at."""
    given, strengths = case(), np.linspace(1.0, 0.5, 3) * OTHER[processor.name]
    if processor.name in ("no_repeat_ngram", "early_stop", "top_k"):
      strengths = np.array([2.0, 3.0, 4.0])
    longer = given._replace(tokens=np.concatenate([given.tokens, np.full((2, 3, 9), 3)], axis=-1))
    together = processed(processor, strengths, given)
    for r in range(3):
      alone = processed(processor, strengths[r : r + 1], longer.at(prompts=slice(1), columns=slice(r, r + 1)))
      np.testing.assert_array_equal(alone[:, 0, 0], together[:, 0, r])

  @parameterized.named_parameters(each())
  def test_its_state_travels_with_its_row(self, processor):
    order = np.array([2, 0, 1])

    def move(state, given):
      for leaf in jax.tree.leaves(state):
        self.assertEqual(leaf.shape[0], given.tokens.shape[0])
      return jax.tree.map(lambda leaf: leaf[:, order] if leaf.shape[1:2] == (3,) else leaf, state), given.at(
        columns=order
      )

    straight = processed(processor, other(processor), case())[LENGTH // 2 :]
    permuted = processed(processor, other(processor), case(), move)[LENGTH // 2 :]
    np.testing.assert_array_equal(permuted, straight[:, :, order])

  @parameterized.named_parameters(each())
  def test_padding_is_no_token(self, processor):
    if "prompt_counts" in FIELDS.get(processor.name, {}):
      processor = dataclasses.replace(processor, prompt_counts=True)
    given = case()
    padded = np.full((2, 9), -1)
    padded[:, [1, 2, 4, 5, 6, 8]] = given.prompt
    found = [processed(processor, other(processor), given._replace(prompt=p)) for p in (given.prompt, padded)]
    np.testing.assert_array_equal(*found)

  @parameterized.named_parameters(each())
  def test_there_is_never_a_nan_and_what_is_all_banned_stays_so(self, processor):
    given = case(banned=0.5)
    given.logits[3:6] = -np.inf
    given.logits[6:9, ..., 1:] = -np.inf  # as temperature 0 leaves them
    given.logits[9:12] *= 1e4
    given.logits[12:15] = 0.0
    given.tokens[:, 1, 18:] = -1  # this row has ended
    for strength in (processor.neutral, OTHER[processor.name]):
      found = processed(processor, (strength,) * 3, given)
      self.assertFalse(np.any(np.isnan(found)))
      self.assertTrue(np.all(np.isneginf(found[np.isneginf(given.logits)])), "a banned token is back")
      if processor.name not in ("early_stop", "no_repeat_ngram", "contrastive_search"):
        self.assertTrue(np.all(np.isfinite(found).any(axis=-1)[np.isfinite(given.logits).any(axis=-1)]))

  @parameterized.parameters(*PENALTIES)
  def test_a_penalty_never_makes_a_token_likelier(self, name):
    (processor,) = (p for p in ONE_OF_EACH if p.name == name)
    given = case()
    found = processed(processor, other(processor), given)
    self.assertTrue(np.all(found <= given.logits))

  @parameterized.parameters(*RANDOM)
  def test_random_processors_differ_by_key_and_not_by_call(self, name):
    (processor,) = (p for p in ONE_OF_EACH if p.name == name)
    given = case()
    again = given._replace(keys=jax.random.split(jax.random.key(9), 3))
    first, second, fresh = (processed(processor, other(processor), x) for x in (given, given, again))
    np.testing.assert_array_equal(first, second)
    self.assertFalse(np.array_equal(first, fresh))


class RefusedTest(parameterized.TestCase):
  @parameterized.parameters(*((p, bad) for p in ONE_OF_EACH for bad in (-1.0, float("nan"), float("inf"))))
  def test_strengths(self, processor, strength):
    with self.assertRaisesRegex(ValueError, f"^{processor.name}={strength} "):
      Generation((processor,), ((strength,),))

  @parameterized.parameters(
    (ContrastiveDecoding, {"plausible": 0.0}), (Dry, {"base": 0.5}), (Dry, {"allowed": 0}), (Dry, {"window": -1}),
    (Dry, {"breakers": (-1,)}), (DynamicTemperature, {"exponent": 0.0}), (EarlyStop, {"shortest": 0}),
    (EarlyStop, {"longest": 0}), (LoopTemperature, {"window": 2}), (LoopTemperature, {"min_length": 97}),
    (LoopTemperature, {"steps": 0}), (LoopTemperature, {"half_life": 0}), (LoopTemperature, {"coldest": 0.0}),
    (LzPenalty, {"window": 0}), (LzPenalty, {"buffer": 0}), (NoRepeatNgram, {"prompt_counts": 3}),
    (RepetitionAware, {"window": 0}), (RepetitionAware, {"top_p": 0.0}), (Xtc, {"threshold": 0.6}),
  )  # fmt: skip
  def test_fields(self, kind, field):
    (name,) = field
    with self.assertRaisesRegex(ValueError, rf"^{kind.name}\.{name}=.* is not allowed: must be "):
      kind(**field)

  def test_a_strength_of_a_processor_that_is_not_in_the_order(self):
    with self.assertRaisesRegex(ValueError, r"^lz_penalty=0.1 .* of this generation, one of \['dry', 'no_repeat"):
      by_name((Dry(), NoRepeatNgram()), [{"lz_penalty": 0.1}])
    generation = by_name((Dry(), NoRepeatNgram()), [{"no_repeat_ngram": 2.0}, {}])
    self.assertEqual(generation.columns, ((0.0, 2.0), (0.0, 0.0)))

  @parameterized.parameters("contrastive_decoding", "contrastive_search")
  def test_a_decoder_that_does_not_tell_what_is_needed(self, name):
    (processor,) = (p for p in ONE_OF_EACH if p.name == name)
    with self.assertRaisesRegex(ValueError, rf"^{name}='\w+' .* told by the decoder"):
      processed(processor, other(processor), case()._replace(extras={}))


if __name__ == "__main__":
  absltest.main()
