"""The map of injected loops: clean students stand beside every kind, and each student is held against its own seed."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from absl.testing import absltest

from experiments import injected_loops

LOOPS = {0.0: 4.0, 1e-3: 6.0, 1e-2: 8.0}


def walks_of_map() -> pd.DataFrame:
  """Per base two kinds, the first with the clean students; two seeds, of which the second loops twice as much."""
  shares = [("root", 0.0), ("root", 1e-3), ("root", 1e-2), ("child", 1e-3), ("child", 1e-2)]
  rows = [
    (injected_loops.MAP, base, kind, share, seed, temperature, (1 + seed) * LOOPS[share] + 100 * temperature)
    for base, (kind, share), seed, temperature in itertools.product(("easy", "hard"), shares, (0, 1), (0.0, 1.0))
  ]
  rows.append((injected_loops.MAIN, "hard", "root", 0.0, 0, 0.0, 1.0))
  frame = pd.DataFrame(rows, columns=["part", "base", "kind", "share", "seed", "temperature", "returns"])
  return frame.assign(condition=frame["share"].map(injected_loops.condition_name), reached=0.5)


class MapTest(absltest.TestCase):
  def test_clean_students_stand_beside_every_kind_and_are_what_their_seed_is_held_against(self):
    rows = injected_loops._map_rows(walks_of_map())
    self.assertLen(rows, 2 * 2 * 3 * 2)  # bases, kinds, shares, seeds; at the lowest temperature alone
    for _, group in rows.groupby("factor"):
      self.assertEqual(list(group["value"].unique()), ["clean", "0.1% injected", "1% injected"])
      np.testing.assert_array_equal(group["is_base"], group["share"] == 0)
    np.testing.assert_allclose(rows["loop_ratio"], rows["share"].map(LOOPS) / LOOPS[0.0])

  def test_it_is_drawn(self):
    figure = injected_loops._map_chart(walks_of_map())
    self.assertLen(figure.axes, 4 * 3)


if __name__ == "__main__":
  absltest.main()
