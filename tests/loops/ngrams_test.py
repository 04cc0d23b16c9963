import tracemalloc

import hypothesis
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.loops import ngrams
from tests.loops import brute_force
from tests.loops.inputs import ROWS


class NgramsTest(parameterized.TestCase):
  @parameterized.named_parameters((row.name, row) for row in ROWS)
  def test_rows_with_known_answers(self, row):
    found = ngrams.recurrence(row.ids)
    self.assertEqual((found.count, found.fired), (row.count, row.fired))
    self.assertEqual(found, brute_force.recurrence(row.ids.tolist(), 30, 20))
    if row.onset is not None:
      self.assertEqual(found.onset, row.onset)

  @hypothesis.given(seed=brute_force.seeds)
  @brute_force.cases
  def test_equals_brute_force(self, seed):
    draw = np.random.default_rng(seed)
    ids, k = brute_force.planted(draw), int(draw.integers(2, 7))
    lengths = [int(n) for n in draw.integers(1, draw.choice([4, 12, 40]), draw.integers(1, 6))]
    with brute_force.hash_of(draw):
      found = ngrams.staircase(ids, lengths, k)
    self.assertEqual(found, tuple(brute_force.recurrence(ids.tolist(), n, k) for n in lengths))

  def test_a_long_text_has_the_same_staircase_as_its_lengths_one_by_one(self):
    draw = np.random.default_rng(0)
    ids = np.concatenate([draw.zipf(1.3, 20000) % 500, np.tile(draw.integers(0, 500, 137), 40)])
    lengths = (5, 10, 20, 30, 50, 100, 200, 400)
    self.assertEqual(ngrams.staircase(ids, lengths), tuple(ngrams.recurrence(ids, n) for n in lengths))
    self.assertEqual(ngrams.recurrence(ids, 30), brute_force.recurrence(ids.tolist(), 30, 20))

  def test_lengths_of_numpy(self):
    ids = np.arange(100) % 7
    self.assertEqual(ngrams.staircase(ids, np.array([3, 9, 30]), np.int8(2)), ngrams.staircase(ids, (3, 9, 30), 2))

  @parameterized.parameters(
    (dict(lengths=(5,)), 4_000_000), (dict(lengths=(5, 10, 20, 30, 50)), 50), (dict(lengths=(500_000,)), 50_000)
  )
  def test_memory_is_at_most_40_bytes_a_unit(self, settings, num_ids):
    ids = np.random.default_rng(0).integers(0, num_ids, 1_000_000, dtype=np.int32)
    tracemalloc.start()
    self.addCleanup(tracemalloc.stop)
    ngrams.staircase(ids, **settings)
    self.assertLessEqual(tracemalloc.get_traced_memory()[1], 40 * ids.size)

  def test_a_known_collision_of_the_hash_is_no_hit(self):
    # A polynomial modulo 2^64 maps a Thue-Morse word of 2^11 letters and its complement to one value, for any base.
    word = np.array([bin(i).count("1") % 2 for i in range(2**11)])
    pieces = [part for turn in range(3) for part in (word, [turn + 2], 1 - word, [turn + 5])]
    found = ngrams.recurrence(np.concatenate(pieces), 2**11, 4)
    self.assertEqual((found.count, found.fired), (3, None))

  @parameterized.parameters(np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64)
  def test_any_integers(self, dtype):
    ids = np.full(40, np.iinfo(dtype).max - 5, dtype) + (np.arange(40) % 4).astype(dtype)
    self.assertEqual(ngrams.recurrence(ids, 8, 5), brute_force.recurrence((np.arange(40) % 4).tolist(), 8, 5))

  @parameterized.parameters(
    (dict(ids=[[1, 2]], n=2), "ids"),
    (dict(ids=[0.5], n=2), "ids"),
    (dict(ids=[1], n=0), "lengths"),
    (dict(ids=[1], k=1), "k="),
  )
  def test_refuses(self, settings, named):
    with self.assertRaisesRegex(ValueError, named):
      ngrams.recurrence(**settings)


if __name__ == "__main__":
  absltest.main()
