import collections

import hypothesis
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.loops import variants
from tests.loops import brute_force
from tests.loops.inputs import ROWS, digits


def measured(ids, found):
  """Fixed share, slots, and whether values come back, by the definition; for sequences without digits."""
  turns = [ids[a : a + found.period] for a in range(found.start, found.end, found.period)]
  share, slots, come_back = 0.0, 0, False
  for place in zip(*turns, strict=True):
    most = max(collections.Counter(place).values())
    if most > 2 / 3 * len(turns):
      share += most / len(turns) / found.period
    else:
      slots, come_back = slots + 1, come_back or most > 1
  return share, slots, come_back


class VariantsTest(parameterized.TestCase):
  @parameterized.named_parameters((row.name, row) for row in ROWS)
  def test_rows_with_known_answers(self, row):
    found = variants.longest_variant(row.ids, digits=digits(row))
    if row.loop_class in ("variant", "enumeration"):
      self.assertEqual(found.kind, row.loop_class)
    else:
      self.assertIsNone(found)
    if row.variant:
      self.assertEqual((found.period, found.slots, found.turns), row.variant)
      self.assertFalse(found.values_come_back)

  @hypothesis.given(seed=brute_force.seeds)
  @brute_force.cases
  def test_what_is_found_is_what_the_definition_says(self, seed):
    draw = np.random.default_rng(seed)
    ids = brute_force.planted(draw, longest=400)
    ids = np.where(draw.random(ids.size) < 0.05, draw.integers(50, 60, ids.size), ids)
    for found in variants.variants(ids, min_length=10):
      share, slots, come_back = measured(ids.tolist(), found)
      self.assertAlmostEqual(found.fixed_share, share)
      self.assertEqual((found.slots, found.values_come_back), (slots, come_back))
      self.assertEqual(found.kind, "variant" if found.fixed_share >= 0.9 else "enumeration")
      self.assertEqual((found.end - found.start) % found.period, 0)
      self.assertGreaterEqual(found.turns, variants.MIN_TURNS)

  @hypothesis.given(seed=brute_force.seeds)
  @brute_force.cases
  def test_finds_turns_with_slots_that_were_planted(self, seed):
    draw = np.random.default_rng(seed)
    period, turns = int(draw.integers(4, 60)), int(draw.integers(6, 30))
    slots = draw.choice(period, int(draw.integers(1, max(2, period // 2 - 1))), replace=False)
    table = np.tile(np.arange(period), (turns, 1))
    table[:, slots] = 1000 + draw.permutation(turns * slots.size).reshape(turns, -1)
    ids = np.concatenate([np.arange(5000, 5040), table.ravel(), np.arange(6000, 6040)])
    found = variants.longest_variant(ids, min_length=20)
    self.assertEqual((found.period, found.slots, found.turns), (period, slots.size, turns))
    self.assertFalse(found.values_come_back)

  def test_edges_whose_units_come_back_inside_a_turn_too(self):
    """Neighbours with one distance vote, and none of these do: the stretch is widened to them."""
    turn = [7, 8, *range(100, 180), 7, 8, 7]
    for turns in (5, 6, 9):
      block = np.concatenate([[*turn[:1], 1000 + i, *turn[1:]] for i in range(turns)])
      found = variants.longest_variant(np.concatenate([np.arange(3000, 3040), block, np.arange(4000, 4040)]))
      self.assertEqual((found.start, found.period, found.slots, found.turns), (40, 86, 1, turns))

  def test_values_that_come_back(self):
    block = np.arange(100, 119)
    ids = np.concatenate([np.append(block, [word, 7][turn % 2]) for turn, word in enumerate([8, 9] * 10)])
    found = variants.longest_variant(ids)
    self.assertEqual((found.period, found.slots, found.values_come_back), (20, 1, True))

  def test_a_variant_in_a_long_text(self):
    draw = np.random.default_rng(0)
    text = draw.zipf(1.3, 50_000) % 3000
    turns = np.tile(np.arange(4000, 4025), (30, 1))
    turns[:, 7] = np.arange(5000, 5030)
    found = variants.longest_variant(np.concatenate([text, turns.ravel(), text]))
    self.assertEqual((found.start, found.end, found.kind), (50_000, 50_750, "variant"))

  def test_an_exact_cycle_is_no_variant(self):
    self.assertEmpty(variants.variants(np.tile(np.arange(9), 20)))

  def test_refuses(self):
    with self.assertRaisesRegex(ValueError, "digits"):
      variants.variants([1, 2, 3], digits=np.zeros(2, bool))


if __name__ == "__main__":
  absltest.main()
