import hypothesis
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.loops import cycles, online
from tests.loops import brute_force
from tests.loops.inputs import ROWS


def expected(ids, max_period, min_length):
  found = [c for c in cycles.locked_cycles(ids, min_length=min_length) if c.is_tail and c.period <= max_period]
  return max(found, key=lambda cycle: cycle.length, default=None)


class OnlineTest(parameterized.TestCase):
  @parameterized.named_parameters((row.name, row) for row in ROWS)
  def test_rows_with_known_answers(self, row):
    watch = online.CycleWatch()
    heard = [cycle for token in row.ids.tolist() if (cycle := watch.append(token))]
    if row.cycle is None:
      self.assertEmpty(heard)
    else:
      start, end, period = row.cycle
      self.assertEqual({(cycle.start, cycle.period) for cycle in heard}, {(start, period)})
      self.assertEqual([heard[0].end, heard[-1].end], [start + max(30, 3 * period), end])

  @hypothesis.given(seed=brute_force.seeds)
  @brute_force.cases
  def test_equals_cycles_of_prefixes(self, seed):
    draw = np.random.default_rng(seed)
    ids, max_period = brute_force.planted(draw), int(draw.choice([1, 2, 5, 20, 64]))
    min_length, largest = int(draw.choice([0, 1, 7, 12, 30])), int(draw.choice([1, 1, 4, 40]))
    watch, end = online.CycleWatch(max_period, min_length=min_length), 0
    while end < ids.size:
      block = ids[end : end + draw.integers(1, largest + 1)]
      end += block.size
      found = watch.append(int(block[0])) if largest == 1 else watch.extend(block)
      if end == ids.size or draw.random() < 0.15:
        self.assertEqual(found, expected(ids[:end], max_period, min_length))
        self.assertEqual(watch.tail, found)
    self.assertLen(watch, ids.size)

  def test_one_by_one_and_in_blocks_over_many_times_the_memory(self):
    draw = np.random.default_rng(0)
    ids = np.concatenate([np.tile(draw.integers(0, 90, 50), 90), draw.integers(0, 90, 999), np.tile([1, 2], 3000)])
    one, blocks = online.CycleWatch(64), online.CycleWatch(64)
    for end in range(100, ids.size, 100):
      found = [one.append(int(token)) for token in ids[end - 100 : end]][-1]
      self.assertEqual(found, blocks.extend(ids[end - 100 : end]))
      self.assertEqual(found, expected(ids[:end], 64, 30))

  def test_memory_does_not_grow(self):
    watch = online.CycleWatch(64)
    size = watch._ids.size
    watch.extend(np.random.default_rng(0).integers(0, 2, 100_000))
    self.assertEqual(watch._ids.size, size)
    self.assertLen(watch, 100_000)

  @parameterized.parameters((dict(max_period=0), "max_period"), (dict(min_length=-1), "min_length"))
  def test_refuses(self, settings, named):
    with self.assertRaisesRegex(ValueError, named):
      online.CycleWatch(**settings)


if __name__ == "__main__":
  absltest.main()
