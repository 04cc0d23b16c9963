"""Hashes block by block, and where n-grams may recur: against plain Python, with blocks as small as a few n-grams."""

from __future__ import annotations

import collections
from unittest import mock

import hypothesis
import numpy as np
from absl.testing import absltest

from loopjax.loops import hashes, ids, ngrams, winnowing
from tests.loops import brute_force


def small_blocks(draw: np.random.Generator) -> mock.Mock:
  return mock.patch.object(hashes, "_BLOCK", int(draw.integers(1, 60)))


def small_tables(draw: np.random.Generator) -> mock.Mock:
  sizes = {"_PART": int(draw.integers(1, 60)), "_TABLE_BITS": int(draw.integers(1, 9)), "_MOST_BITS": 5}
  return mock.patch.multiple(winnowing, **sizes)


class HashesTest(absltest.TestCase):
  @hypothesis.given(seed=brute_force.seeds)
  def test_of_all_and_of_some_n_grams(self, seed):
    draw = np.random.default_rng(seed)
    units = draw.integers(-3, 50, draw.integers(1, 300))
    n = int(draw.integers(1, min(units.size, 40) + 1))
    expected = [
      sum(int(unit) * pow(hashes.BASE, j + 1, 2**64) for j, unit in enumerate(units[i : i + n])) % 2**64
      for i in range(units.size - n + 1)
    ]
    some = np.flatnonzero(draw.random(len(expected)) < draw.random()).astype(np.int32)
    with small_blocks(draw):
      found = hashes.gram_hashes(units, n)
      self.assertEqual(found.tolist(), expected)
      np.testing.assert_array_equal(hashes.gram_hashes(units, n, some), found[some])


class MayRecurTest(absltest.TestCase):
  @hypothesis.given(seed=brute_force.seeds)
  def test_no_n_gram_that_recurs_is_left_out(self, seed):
    draw = np.random.default_rng(seed)
    units = brute_force.planted(draw)
    units = np.concatenate([units, draw.integers(0, 9, 12)])
    n, k = int(draw.integers(10, min(units.size, 40) + 1)), int(draw.integers(2, 12))
    grams = [tuple(units[i : i + n]) for i in range(units.size - n + 1)]
    counts = collections.Counter(grams)
    with small_blocks(draw), small_tables(draw), brute_force.hash_of(draw):
      found = winnowing.may_recur(units, n, k)
    self.assertTrue((np.diff(found) > 0).all())
    self.assertContainsSubset([i for i, gram in enumerate(grams) if counts[gram] >= k], found.tolist())

  def test_where_nothing_recurs_hardly_anything_is_left(self):
    text = np.random.default_rng(0).integers(0, 50_000, 200_000)
    self.assertEmpty(winnowing.may_recur(text, 30, 20))
    self.assertLess(winnowing.may_recur(text, 20, 2).size, 200)
    self.assertIsNone(winnowing.may_recur(text, 9, 2))

  def test_a_loop_is_left_and_the_rest_is_not(self):
    draw = np.random.default_rng(1)
    text = np.concatenate([draw.integers(0, 50_000, 100_000), np.tile(draw.integers(0, 50_000, 137), 40)])
    found = winnowing.may_recur(text, 30, 20)
    self.assertContainsSubset(range(100_000, text.size - 29), found.tolist())
    self.assertLess(found.size, 40 * 137 + 10_000)  # a tenth of what does not recur


class NumbersTest(absltest.TestCase):
  def test_ranks_among_the_ids_that_occur(self):
    for dtype in (np.int8, np.uint8, np.int32, np.int64, np.uint64):
      top = np.iinfo(dtype).max
      units = np.array([top, top - 7, top - 3, top, top - 7], dtype)
      np.testing.assert_array_equal(ids.dense(units), [2, 0, 1, 2, 0])
    np.testing.assert_array_equal(ids.dense(np.array([-128, 127] * 40, np.int8)), [0, 1] * 40)
    self.assertIsNone(ids.dense(np.array([0, 2**40])))
    self.assertIsNone(ids.dense(np.array([0, 1_024])))
    self.assertIsNone(ids.dense(np.array([0, 2**63], np.uint64)))

  @hypothesis.given(seed=brute_force.seeds)
  def test_hashes_give_the_staircase_that_exact_numbers_give(self, seed):
    """n-grams up to 9 units are numbers by their digits, longer ones pairs of classes, unless that is forbidden."""
    draw = np.random.default_rng(seed)
    units, k, lengths = brute_force.planted(draw), int(draw.integers(2, 7)), (2, 3, 5, 9, 17, 40)
    exact = ngrams.staircase(units, lengths, k)
    with mock.patch.object(ngrams, "_fits", return_value=False), brute_force.hash_of(draw):
      self.assertEqual(ngrams.staircase(units, lengths, k), exact)
    self.assertEqual(exact, tuple(brute_force.recurrence(units.tolist(), n, k) for n in lengths))


if __name__ == "__main__":
  absltest.main()
