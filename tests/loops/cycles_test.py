import hypothesis
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.loops import cycles
from tests.loops import brute_force
from tests.loops.inputs import ROWS


def triples(found):
  return [(cycle.start, cycle.end, cycle.period) for cycle in found]


class CyclesTest(parameterized.TestCase):
  @parameterized.named_parameters((row.name, row) for row in ROWS)
  def test_rows_with_known_answers(self, row):
    found = cycles.locked_cycles(row.ids)
    self.assertEqual(triples(found), [row.cycle] if row.cycle else [])
    self.assertEqual(cycles.longest_cycle(row.ids), found[0] if found else None)
    if row.cycle:
      start, end, period = row.cycle
      self.assertEqual(found[0].repetitions, (end - start) / period)
      self.assertEqual(found[0].is_tail, end == row.ids.size)

  @hypothesis.given(seed=brute_force.seeds)
  @brute_force.cases
  def test_equals_brute_force(self, seed):
    draw = np.random.default_rng(seed)
    ids, min_length = brute_force.planted(draw), int(draw.choice([0, 1, 5, 9, 12, 30]))
    with brute_force.hash_of(draw):
      found = cycles.locked_cycles(ids, min_length=min_length)
    self.assertEqual(triples(found), brute_force.cycles(ids.tolist(), min_length))
    self.assertEqual([cycle.is_tail for cycle in found], [cycle.end == ids.size for cycle in found])
    longest = cycles.longest_cycle(ids, min_length=min_length)
    self.assertEqual(longest, max(found, key=lambda cycle: (cycle.length, -cycle.start), default=None))

  @parameterized.parameters(1, 7, 30, 31, 997, 33333)
  def test_long_text_that_loops_to_its_end(self, period):
    draw = np.random.default_rng(period)
    start, block = np.arange(1000), 1000 + draw.permutation(period)
    ids = np.concatenate([start, np.tile(block, 100_000 // period + 1)[:100_000]])
    self.assertEqual(triples(cycles.locked_cycles(ids)), [(1000, 101_000, period)])

  def test_cycles_inside_the_block_of_a_cycle(self):
    inner = np.concatenate([np.tile([1, 2, 3], 20), np.tile([4, 5], 50), np.arange(6, 40)])
    found = triples(cycles.locked_cycles(np.tile(inner, 4)))
    self.assertIn((0, 4 * inner.size, inner.size), found)
    self.assertLen(found, 1 + 2 * 4)

  def test_two_halves_that_are_equal_are_no_cycle(self):
    half = np.random.default_rng(0).integers(0, 1000, 5000)
    self.assertEmpty(cycles.locked_cycles(np.tile(half, 2)))
    self.assertEqual(triples(cycles.locked_cycles(np.tile(half, 3))), [(0, 15_000, 5000)])

  def test_refuses_a_negative_length(self):
    with self.assertRaisesRegex(ValueError, "min_length"):
      cycles.locked_cycles([1, 2], min_length=-1)


if __name__ == "__main__":
  absltest.main()
