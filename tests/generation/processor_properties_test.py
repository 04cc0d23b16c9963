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
from tests.generation.along import LENGTH, MAY_BAN_ALL, ONE_OF_EACH, STRENGTHS, Case, case, processed, reads

HERE = "tests/generation/processor_properties_test.py"
# Their docstrings say so: they divide an offset too, which changes no probability; or it changes what they do.
DIVIDES, DEPENDS_ON_OFFSET = ("temperature", "dynamic_temperature"), ("repetition_penalty",)
# They divide logits, or add another model's. All others take something off, or ban.
RAISES_LOGITS = ("temperature", "dynamic_temperature", "contrastive_decoding")

# Other values of fields, where that of `changed` is not allowed or shows nothing on the texts of `along`.
CHANGED = {
  "dry": {"base": 1.2},
  "early_stop": {"longest": 2},
  "loop_temperature": {"window": 6},
  "lz_penalty": {"buffer": 1},
}


def each() -> list[dict]:
  return [{"testcase_name": processor.name, "processor": processor} for processor in ONE_OF_EACH]


def each_field() -> list[tuple]:
  return [(f"{p.name}_{field.name}", p, field.name) for p in ONE_OF_EACH for field in dataclasses.fields(p)]


def changed(processor, field: str):
  """The processor with another value of a field: a switch turned, 4 for a whole number, half of another, token 1."""
  value = getattr(processor, field)
  rules = {bool: lambda: not value, int: lambda: 4, float: lambda: value / 2, tuple: lambda: (1,)}
  enter = f"{processor.name}.{field}: enter another value than {value!r} in CHANGED in {HERE}, one that is allowed."
  try:
    given = CHANGED[processor.name][field] if field in CHANGED.get(processor.name, {}) else rules[type(value)]()
    return dataclasses.replace(processor, **{field: given})
  except (KeyError, ValueError) as error:
    raise LookupError(enter) from error


def other(processor) -> tuple[float, ...]:
  return (STRENGTHS[processor.name][0],) * 3


def leaving_the_loop(given: Case) -> Case:
  """The loop of column 0 ends before the text does."""
  tokens = given.tokens.copy()
  tokens[:, 0, -8:] = given.tokens[:, 1, -8:]
  return given._replace(tokens=tokens)


class PropertiesTest(parameterized.TestCase):
  def test_all_that_are_registered_are_here_and_lists_name_no_other(self):
    self.assertEqual([processor.name for processor in ONE_OF_EACH], sorted(all_processors()))
    self.assertLessEqual({*STRENGTHS}, {*all_processors()})
    for name, fields in CHANGED.items():
      self.assertLessEqual({*fields}, {field.name for field in dataclasses.fields(all_processors()[name])})

  def test_the_page_lists_them_all(self):
    page = (Path(__file__).parents[2] / "docs" / "remedies.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| (\d) \| [^|]*\|$", page, re.M)
    told, there = {(name, float(neutral)) for name, neutral in rows}, {(p.name, p.neutral) for p in ONE_OF_EACH}
    self.assertEqual(told, there, "enter it in the table of docs/remedies.md: | `name` | rule | neutral | source |")

  @parameterized.named_parameters(each())
  def test_the_neutral_strength_changes_nothing_and_another_does(self, processor):
    for banned in (0.0, 0.5):
      given = case(banned=banned)
      np.testing.assert_array_equal(processed(processor, (processor.neutral,) * 3, given), given.logits)
      self.assertFalse(
        np.array_equal(processed(processor, other(processor), given), given.logits),
        f"{processor} does nothing to a text of {LENGTH} tokens. If its fields look further back, enter it with "
        "shorter ones in SHORT in tests/generation/along.py.",
      )
    for strength in (processor.neutral, *STRENGTHS[processor.name]):
      processor.check(strength)

  @parameterized.named_parameters(each_field())
  def test_every_field_shows(self, processor, field):
    given, another = leaving_the_loop(case()), changed(processor, field)
    found = [processed(p, other(processor), given) for p in (processor, another)]
    self.assertFalse(
      np.array_equal(*found),
      f"{another} does what {processor} does: the field does nothing. If another value shows, enter it in CHANGED in "
      f"{HERE}.",
    )

  @parameterized.named_parameters(each_field())
  def test_every_field_is_checked(self, processor, field):
    text = "allowed"
    try:
      dataclasses.replace(processor, **{field: None})
    except (TypeError, ValueError) as error:
      text = str(error)
    message = "its `__post_init__` must begin with `check_fields(self, self.name)`"
    self.assertRegex(text, rf"^{processor.name}\.{field}=None is not allowed: must be ", message)

  @parameterized.named_parameters(each())
  def test_a_number_added_to_all_logits_comes_out_again(self, processor):
    given = case(banned=0.2)
    plain, shifted = (
      processed(processor, other(processor), given._replace(logits=given.logits + c)) for c in (0.0, 4.0)
    )
    if processor.name in DIVIDES + DEPENDS_ON_OFFSET:
      plain, shifted = jax.nn.log_softmax(plain), jax.nn.log_softmax(shifted) + 4.0
    same = np.allclose(shifted, plain + 4.0, atol=1e-4, rtol=1e-5)
    expected = processor.name not in DEPENDS_ON_OFFSET
    self.assertEqual(same, expected, f"where it is meant so, enter it in DIVIDES or DEPENDS_ON_OFFSET in {HERE}")

  @parameterized.named_parameters(each())
  def test_a_row_alone_in_a_longer_buffer_is_the_row_in_the_batch(self, processor):
    """What lies in a buffer past the tokens read so far is never looked at."""
    given, strengths = case(), np.array(STRENGTHS[processor.name])
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
    if hasattr(processor, "prompt_counts"):
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
    for strength in (processor.neutral, *STRENGTHS[processor.name]):
      found = processed(processor, (strength,) * 3, given)
      self.assertFalse(np.any(np.isnan(found)))
      self.assertTrue(np.all(np.isneginf(found[np.isneginf(given.logits)])), "a banned token is back")
      if processor.name not in MAY_BAN_ALL:
        kept = np.isfinite(found).any(axis=-1)[np.isfinite(given.logits).any(axis=-1)]
        self.assertTrue(np.all(kept), "bans all; if meant, enter it in MAY_BAN_ALL in tests/generation/along.py")

  @parameterized.named_parameters(each())
  def test_no_logit_becomes_larger(self, processor):
    """As it must be for a penalty, and for what drops tokens."""
    given = case()
    lowers = bool(np.all(processed(processor, other(processor), given) <= given.logits))
    message = f"where it is meant so, enter it in RAISES_LOGITS in {HERE}"
    self.assertEqual(lowers, processor.name not in RAISES_LOGITS, message)

  @parameterized.named_parameters(each())
  def test_what_reads_keys_differs_by_key_and_nothing_differs_by_call(self, processor):
    given = case()
    again = given._replace(keys=jax.random.split(jax.random.key(9), 3))
    first, second, fresh = (processed(processor, other(processor), x) for x in (given, given, again))
    np.testing.assert_array_equal(first, second)
    self.assertEqual(np.array_equal(first, fresh), "keys" not in reads(processor), "it reads keys, and uses none")


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
