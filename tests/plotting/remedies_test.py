"""Remedies in a plane: marks where the means are, crosses as scipy has them, texts that are legible."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

from loopjax import plotting
from tests.plotting.plotting_test import PlottingTestCase, legend_texts, line, overlap, within

PLAIN, TEMPERATURES = "temperature alone", np.round(np.arange(0, 1.01, 0.1), 1)
REMEDIES = [f"remedy {letter}" for letter in "abcdefghij"]
_BELOW_DIGITS = 3.0  # pixels, of a line of text for letters such as g
KINDS = {name: ("decoding", "training")[number % 2] for number, name in enumerate(REMEDIES)}


def plane_frame(num_bases: int = 3, num_seeds: int = 4) -> pd.DataFrame:
  """Ten remedies in a heap at the foot of a curve, of which the best temperature is 0.5."""
  rng, parts = np.random.default_rng(0), []
  settings = [(PLAIN, t, 1.5 + 3 * (t - 0.5) ** 2, 0.9 * np.exp(-5 * t)) for t in TEMPERATURES]
  settings += [(name, 0.0, 1 + 0.05 * number, 0.01 * number) for number, name in enumerate(REMEDIES)]
  for base, (remedy, temperature, x, y) in itertools.product(range(num_bases), settings):
    noise = 0.02 * rng.random(num_seeds)
    parts.append(
      pd.DataFrame({
        "base": f"base {base}", "remedy": remedy, "trial": 0, "temperature": temperature, "seed": range(num_seeds),
        "excess_length": x + noise, "locked_cycle_share": np.minimum(y + noise, 1.0),
      })
    )  # fmt: skip
  return pd.concat(parts, ignore_index=True)


@functools.cache
def drawn(num_bases: int = 3) -> Figure:
  """The figure of `plane_frame`, for tests that only look at it: its texts take seconds to lie off each other."""
  return plotting.remedy_plane(plane_frame(num_bases), PLAIN, KINDS)


class RemedyPlaneTest(PlottingTestCase):
  def test_means_crosses_and_the_curve(self):
    frame = plane_frame()
    axes = drawn().axes[1]
    here = frame[frame["base"] == "base 1"]
    rows = here[here["remedy"] == REMEDIES[2]]
    self.assert_line(axes, "3", [rows["excess_length"].mean()], [rows["locked_cycle_share"].mean()])
    interval = stats.ttest_1samp(rows["excess_length"], 0).confidence_interval(0.95)
    np.testing.assert_allclose(line(axes, "3, interval of excess_length").get_xdata(), interval)
    means = here[here["remedy"] == PLAIN].groupby("temperature")[["excess_length", "locked_cycle_share"]].mean()
    self.assert_line(axes, PLAIN, means["excess_length"], means["locked_cycle_share"])
    self.assert_line(
      axes, "best temperature", [means.loc[0.5, "excess_length"]], [means.loc[0.5, "locked_cycle_share"]]
    )

  def test_intervals_of_shares_stay_shares(self):
    for axes in drawn().axes:
      self.assertGreaterEqual(min(line(axes, "1, interval of locked_cycle_share").get_ydata()), 0.0)

  def test_kinds_differ_in_colour_and_marker(self):
    axes = drawn().axes[0]
    one, other = line(axes, "1"), line(axes, "2")
    self.assertNotEqual(one.get_color(), other.get_color())
    self.assertNotEqual(one.get_marker(), other.get_marker())
    self.assertTrue({one.get_color(), other.get_color()} <= set(plotting.PALETTE))

  def test_the_legend_leads_from_numbers_to_names(self):
    texts = legend_texts(plotting.remedy_plane(plane_frame(), PLAIN, KINDS, title="title"))
    for number, name in enumerate(REMEDIES, start=1):
      self.assertIn(f"{number}  {name}", texts)
    self.assertIn("95% t-interval", texts)

  @parameterized.parameters(1, 2, 3)
  def test_texts_lie_in_their_panel_and_off_each_other(self, num_bases):
    figure = drawn(num_bases)
    self.assert_nothing_overlaps(figure)
    for axes in figure.axes:
      texts = {text.get_text(): text for text in axes.texts}
      self.assertTrue({*map(str, range(1, 11)), "T 0", "T 0.5", "T 1"} <= set(texts))
      boxes = [Text.get_window_extent(text) for text in texts.values()]  # without the line to the point
      for box in boxes:
        self.assertTrue(within(box, axes.bbox, _BELOW_DIGITS))
      for a, b in itertools.combinations(boxes, 2):
        self.assertFalse(overlap(a, b, _BELOW_DIGITS))

  def test_few_seeds_are_shown_themselves(self):
    figure = plotting.remedy_plane(plane_frame(1, 2), PLAIN, KINDS)
    self.assertFalse([one for one in figure.axes[0].lines if "interval" in str(one.get_label())])
    self.assertNotIn("95% t-interval", legend_texts(figure))

  def test_a_diverged_seed_is_left_out_and_a_diverged_remedy_has_no_marker(self):
    frame = plane_frame(1)
    frame.loc[(frame["remedy"] == REMEDIES[0]) & (frame["seed"] == 1), ["excess_length", "locked_cycle_share"]] = np.nan
    frame.loc[frame["remedy"] == REMEDIES[1], ["excess_length", "locked_cycle_share"]] = np.nan
    figure = plotting.remedy_plane(frame, PLAIN, KINDS)
    labels = [one.get_label() for one in figure.axes[0].lines]
    self.assertIn("1", labels)
    self.assertNotIn("2", labels)
    self.assertIn("1  remedy a (3 of 4 seeds)", legend_texts(figure))
    self.assertIn("2  remedy b (0 of 4 seeds)", legend_texts(figure))

  def test_plain_students_alone(self):
    frame = plane_frame(1)
    figure = plotting.remedy_plane(frame[frame["remedy"] == PLAIN], PLAIN, {})
    self.assertLen(figure.legends, 1)

  def test_its_file_has_a_piece_for_every_panel_and_legend_entry(self):
    figure = plotting.remedy_plane(plane_frame(), PLAIN, KINDS)
    with tempfile.TemporaryDirectory() as folder:
      plotting.save(figure, Path(folder) / "plane")
      root = ElementTree.parse(Path(folder) / "plane.svg").getroot()
    symbols = list(root.iter("{http://www.w3.org/2000/svg}symbol"))
    self.assertLen(symbols, 3 + len(legend_texts(figure)))
    for one in symbols:
      self.assertLess(float(one.get("viewBox").split()[2]), 200)

  @parameterized.parameters(
    (lambda f: f.drop(columns="excess_length"), KINDS, "excess_length"),
    (lambda f: pd.concat([f, f]), KINDS, "several rows of one base, remedy"),
    (lambda f: f, {**KINDS, "remedy c": "prayer"}, "remedy c.*one of .'decoding', 'training'"),
    (lambda f: f[(f["remedy"] != PLAIN) | (f["base"] == "base 0")], KINDS, "base 1.*temperature alone"),
  )
  def test_errors(self, change, kinds, message):
    with self.assertRaisesRegex(ValueError, message):
      plotting.remedy_plane(change(plane_frame()), PLAIN, kinds)


if __name__ == "__main__":
  absltest.main()
