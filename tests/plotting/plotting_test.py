import filecmp
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from matplotlib import colors
from PIL import Image
from scipy import stats

from loopjax import plotting

TEMPERATURES = [0.0, 0.5, 1.0]
CONDITIONS = ["hard, with exploration", "easy, with exploration"]
MEASURES = ["reached", "returns", "root_loop_share", "response_length"]


def walks_frame(num_seeds=4):
  rng = np.random.default_rng(0)
  keys = itertools.product(CONDITIONS, range(num_seeds), TEMPERATURES)
  frame = pd.DataFrame(keys, columns=["condition", "seed", "temperature"])
  for measure, scale in zip(MEASURES, [1, 30, 1, 64], strict=True):
    frame[measure] = scale * rng.uniform(0.2, 0.8, len(frame))
  return frame.sample(frac=1, random_state=0).sort_values("condition", ascending=False, kind="stable")


def theory_frame(learners=("exact teacher", "memoryless learner")):
  keys = itertools.product(CONDITIONS, learners, TEMPERATURES[::-1])
  frame = pd.DataFrame(keys, columns=["condition", "learner", "temperature"])
  return frame.assign(**{measure: np.linspace(0, 1, len(frame)) for measure in MEASURES})


def published_frame():
  frame = pd.DataFrame({"condition": CONDITIONS[0], "temperature": [0.0, 0.2, 0.6]})
  return frame.assign(reached=[0.0, 0.3, np.nan], returns=[60.0, 30.0, 10.0])


def root_frame(num_seeds=3):
  rng = np.random.default_rng(1)
  keys = itertools.product((2, 3, 8), (0.1, 0.2, 0.3, 0.6), range(num_seeds), range(1, 5))
  frame = pd.DataFrame(keys, columns=["n", "p", "seed", "visit"])
  cycle = frame["p"] + 0.01 * rng.normal(size=len(frame)) + 0.01 * frame["visit"]
  return frame.assign(
    cycle_probability=cycle, risk_aversion_ratio=cycle / (1 - cycle) * frame["n"], child_entropy=0.99,
    total_variation=0.02 * rng.random(len(frame)), invalid_mass=1e-3 * rng.random(len(frame)),
    cycle_is_argmax=(cycle > 1 / (frame["n"] + 1)).astype(float),
  )  # fmt: skip


def history_frame():
  keys = itertools.product(CONDITIONS, range(3), [1, 101, 201, 301])
  frame = pd.DataFrame(keys, columns=["condition", "seed", "step"])
  return frame.assign(loss=5 / np.sqrt(frame["step"]) * (1 + 0.1 * frame["seed"]))


def pairs_frame(x, measure, num_panels=4):
  rng = np.random.default_rng(2)
  panels = [f"panel {i}" for i in range(num_panels)]
  frame = pd.DataFrame(
    itertools.product(panels, ["one", "two"], range(3), [1, 2, 3]), columns=["panel", "pairs", "seed", x]
  )
  return frame.assign(**{measure: rng.uniform(-0.2, 0.8, len(frame)), "chance": rng.uniform(0.2, 0.3, len(frame))})


def labels(axes):
  return [artist.get_label() for artist in [*axes.lines, *axes.collections]]


def line(axes, label):
  [found] = [artist for artist in axes.lines if artist.get_label() == label]
  return found


def band(axes, label):
  """The band's ends by place on the horizontal axis: {x: (low, high)}."""
  [found] = [x for x in axes.collections if x.get_label() == f"{label}, 95% t-interval"]
  vertices = np.concatenate([path.vertices for path in found.get_paths()])
  return {x: (vertices[vertices[:, 0] == x, 1].min(), vertices[vertices[:, 0] == x, 1].max()) for x in vertices[:, 0]}


def legend_texts(figure):
  return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def panel(figure, title):
  [found] = [axes for axes in figure.axes if axes.get_title() == title]
  return found


class PlottingTestCase(parameterized.TestCase):
  def assert_line(self, axes, label, x, y):
    np.testing.assert_allclose(line(axes, label).get_xdata(), x)
    np.testing.assert_allclose(line(axes, label).get_ydata(), y)

  def assert_mean_and_band(self, axes, label, values):
    """Line and band against scipy, from {x: values over seeds}."""
    self.assert_line(axes, label, list(values), [np.nanmean(v) for v in values.values()])
    for x, (low, high) in band(axes, label).items():
      expected = stats.ttest_1samp(values[x], 0, nan_policy="omit").confidence_interval(0.95)
      np.testing.assert_allclose([low, high], [expected.low, expected.high], rtol=1e-6)
    self.assertEqual(set(band(axes, label)), set(values))

  def assert_nothing_overlaps(self, figure):
    """Texts and legends lie within the figure and off each other; legends lie off the panels."""
    figure.draw_without_rendering()
    texts = [t for axes in figure.axes for t in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    texts += [t for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for t in visible_tick_labels(axis)]
    texts += [axes.yaxis.get_offset_text() for axes in figure.axes] + figure.texts
    boxes = {f"{t.get_text()} {id(t)}": t.get_window_extent() for t in texts if t.get_text() and t.get_visible()}
    legends = {f"legend {i}": legend.get_window_extent() for i, legend in enumerate(figure.legends)}
    panels = {f"panel {i}": axes.get_window_extent() for i, axes in enumerate(figure.axes)}
    for name, box in (boxes | legends).items():
      self.assertTrue(within(box, figure.bbox), f"{name} leaves the figure")
    for (one, a), (other, b) in itertools.combinations((boxes | legends).items(), 2):
      self.assertFalse(overlap(a, b), f"{one} overlaps {other}")
    for (one, a), (other, b) in itertools.product((boxes | legends).items(), panels.items()):
      self.assertFalse(overlap(a, b), f"{one} overlaps {other}")


def visible_tick_labels(axis):
  low, high = sorted(axis.get_view_interval())
  return [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_visible()]


def within(box, outer, slack=1.0):
  return (
    box.x0 >= outer.x0 - slack and box.y0 >= outer.y0 - slack
    and box.x1 <= outer.x1 + slack and box.y1 <= outer.y1 + slack
  )  # fmt: skip


def overlap(a, b, slack=1.0):
  return min(a.x1, b.x1) - max(a.x0, b.x0) > slack and min(a.y1, b.y1) - max(a.y0, b.y0) > slack


class AgainstTemperatureTest(PlottingTestCase):
  def test_means_and_bands(self):
    frame = walks_frame()
    figure = plotting.against_temperature(frame, MEASURES)
    for axes, measure in zip(figure.axes, MEASURES, strict=True):
      for condition in CONDITIONS:
        rows = frame[frame["condition"] == condition]
        values = {t: rows.loc[rows["temperature"] == t, measure].to_numpy() for t in TEMPERATURES}
        self.assert_mean_and_band(axes, condition, values)

  def test_a_nan_seed_is_left_out_and_the_legend_says_so(self):
    frame = walks_frame()
    frame.loc[(frame["condition"] == CONDITIONS[0]) & (frame["seed"] == 1), MEASURES] = np.nan
    figure = plotting.against_temperature(frame, ["reached"])
    rows = frame[frame["condition"] == CONDITIONS[0]]
    values = {t: rows.loc[rows["temperature"] == t, "reached"].to_numpy() for t in TEMPERATURES}
    self.assert_mean_and_band(figure.axes[0], CONDITIONS[0], values)
    self.assertIn(f"{CONDITIONS[0]} (3 of 4 seeds)", legend_texts(figure))
    self.assertIn(CONDITIONS[1], legend_texts(figure))
    self.assertIn("student mean, 3-4 seeds, 95% t-interval", legend_texts(figure))

  def test_a_condition_without_any_finite_seed(self):
    frame = walks_frame()
    frame.loc[frame["condition"] == CONDITIONS[0], MEASURES] = np.nan
    figure = plotting.against_temperature(frame, MEASURES)
    self.assertIn(f"{CONDITIONS[0]} (0 of 4 seeds)", legend_texts(figure))
    self.assert_nothing_overlaps(figure)

  def test_one_seed_has_a_line_and_no_band(self):
    frame = walks_frame(num_seeds=1)
    figure = plotting.against_temperature(frame, ["reached"])
    self.assertEmpty(figure.axes[0].collections)
    rows = frame[frame["condition"] == CONDITIONS[1]].sort_values("temperature")
    self.assert_line(figure.axes[0], CONDITIONS[1], TEMPERATURES, rows["reached"])
    self.assertIn("student, one seed", legend_texts(figure))

  def test_theory_is_broken_in_the_colour_of_its_condition_and_named(self):
    theory = theory_frame()
    figure = plotting.against_temperature(walks_frame(), MEASURES, theory=theory)
    for condition, learner in itertools.product(CONDITIONS, ["exact teacher", "memoryless learner"]):
      rows = theory[(theory["condition"] == condition) & (theory["learner"] == learner)].sort_values("temperature")
      for axes, measure in zip(figure.axes, MEASURES, strict=True):
        label = f"{condition}, {learner}"
        self.assert_line(axes, label, rows["temperature"], rows[measure])
        self.assertNotEqual(line(axes, label).get_linestyle(), "-")
        self.assertEqual(line(axes, label).get_color(), line(axes, condition).get_color())
    self.assertContainsSubset(["exact teacher", "memoryless learner"], legend_texts(figure))
    self.assertNotIn("Bayes learner", legend_texts(figure))
    self.assertNotIn("published", legend_texts(figure))

  def test_published_points_are_markers_in_the_colour_of_their_condition(self):
    figure = plotting.against_temperature(walks_frame(), MEASURES, published=published_frame())
    axes, label = panel(figure, "Returns to s"), f"{CONDITIONS[0]}, published"
    self.assert_line(axes, label, [0.0, 0.2, 0.6], [60.0, 30.0, 10.0])
    self.assertEqual(line(axes, label).get_linestyle(), "None")
    self.assertEqual(line(axes, label).get_marker(), "D")
    self.assertEqual(line(axes, label).get_markeredgecolor(), line(axes, CONDITIONS[0]).get_color())
    self.assertNotIn(label, labels(panel(figure, "Response length")))  # not published
    self.assertIn("published", legend_texts(figure))

  def test_no_published_rows(self):
    figure = plotting.against_temperature(walks_frame(), ["reached"], published=published_frame()[:0])
    self.assertNotIn("published", legend_texts(figure))

  def test_axis_labels_titles_and_limits(self):
    figure = plotting.against_temperature(walks_frame(), MEASURES, title="Walks")
    self.assertEqual([axes.get_xlabel() for axes in figure.axes], ["temperature"] * 4)
    units = ["share of walks", "per walk", "share of nodes", "nodes"]
    self.assertEqual([axes.get_ylabel() for axes in figure.axes], units)
    titles = ["Goal reached (accuracy)", "Returns to s", "Root loops (s-r-s)", "Response length"]
    self.assertEqual([axes.get_title() for axes in figure.axes], titles)
    self.assertEqual(figure.legends[0].get_title().get_text(), "Walks")
    np.testing.assert_allclose(figure.axes[0].get_ylim(), [-0.04, 1.04])
    self.assertLess(figure.axes[1].get_ylim()[0], 0.0)

  @parameterized.parameters(1, 2, 3, 4)
  def test_nothing_overlaps(self, num_measures):
    published = published_frame()
    figure = plotting.against_temperature(
      walks_frame(), MEASURES[:num_measures], theory=theory_frame(tuple(plotting.LEARNERS)), published=published
    )
    self.assertLen(figure.axes, num_measures)
    self.assert_nothing_overlaps(figure)

  def test_conditions_choose_and_order_and_colours_follow_the_order(self):
    frame = walks_frame()
    figure = plotting.against_temperature(frame, ["reached"], conditions=CONDITIONS[::-1])
    self.assertEqual(legend_texts(figure)[:2], CONDITIONS[::-1])
    self.assertEqual(line(figure.axes[0], CONDITIONS[1]).get_color(), plotting.PALETTE[0])
    alone = plotting.against_temperature(
      frame, ["reached"], conditions=CONDITIONS[:1], colours=plotting.palette(CONDITIONS[::-1]), theory=theory_frame()
    )
    self.assertEqual(line(alone.axes[0], CONDITIONS[0]).get_color(), plotting.PALETTE[1])
    self.assertFalse([label for label in labels(alone.axes[0]) if CONDITIONS[1] in label])

  def test_another_hue(self):
    frame = walks_frame().rename(columns={"condition": "remedy"})
    self.assertIn(CONDITIONS[0], legend_texts(plotting.against_temperature(frame, ["reached"], hue="remedy")))

  @parameterized.named_parameters(
    ("column", dict(measures=["speed"]), r"column='speed' is not allowed: must be one of \[.*'reached'"),
    ("no_measure", dict(measures=[]), "one measure or more"),
    ("condition", dict(conditions=["medium"]), r"conditions=\['medium'\]"),
    ("theory", dict(theory=theory_frame().assign(condition="medium")), r"theory.condition=\['medium'\]"),
    ("learner", dict(theory=theory_frame(("teacher",))), "learner='teacher' is not allowed"),
    ("published", dict(published=published_frame().drop(columns="temperature")), "published.columns"),
    ("repeated_theory", dict(theory=pd.concat([theory_frame()] * 2)), "several rows of one learner, temperature"),
  )
  def test_errors(self, change, message):
    with self.assertRaisesRegex(ValueError, message):
      plotting.against_temperature(walks_frame(), **({"measures": ["reached"]} | change))

  def test_settings_left_open_are_refused(self):
    with self.assertRaisesRegex(ValueError, "several rows of one temperature, seed"):
      plotting.against_temperature(pd.concat([walks_frame()] * 2), ["reached"])

  def test_too_many_conditions_are_refused(self):
    with self.assertRaisesRegex(ValueError, "at most 7"):
      plotting.palette([str(i) for i in range(8)])


class PropositionTest(PlottingTestCase):
  def test_first_visit_against_p_and_the_diagonal(self):
    frame = root_frame()
    axes = panel(plotting.proposition_panels(frame), "Cycle at visit 1")
    for n in (2, 3, 8):
      rows = frame[(frame["n"] == n) & (frame["visit"] == 1)]
      self.assert_mean_and_band(axes, f"n = {n}", dict(rows.groupby("p")["cycle_probability"].apply(np.array)))
    predicted = line(axes, "Proposition 1")
    np.testing.assert_allclose(predicted.get_ydata(), predicted.get_xdata(), rtol=1e-12)
    np.testing.assert_allclose(predicted.get_xdata()[[0, -1]], [0.1, 0.6])
    self.assertNotEqual(predicted.get_linestyle(), "-")

  def test_predictions(self):
    figure = plotting.proposition_panels(root_frame())
    for title, value in {"Distance from the solution": 0, "Entropy over children": 1, "Invalid mass": 0}.items():
      np.testing.assert_array_equal(line(panel(figure, title), "Proposition 1").get_ydata(), value)
    for n in (2, 8):
      predicted = line(panel(figure, "Risk-aversion ratio"), f"n = {n}, Proposition 1")
      p = predicted.get_xdata()
      np.testing.assert_allclose(predicted.get_ydata(), n * p / (1 - p))

  def test_visits_at_the_nearest_p(self):
    frame = root_frame()
    axes = panel(plotting.proposition_panels(frame, cycle_prob=0.26), "Cycle by visit, p = 0.3")
    rows = frame[(frame["n"] == 3) & (frame["p"] == 0.3)]
    self.assert_mean_and_band(axes, "n = 3", dict(rows.groupby("visit")["cycle_probability"].apply(np.array)))
    self.assert_line(axes, "Proposition 1", [1, 4], [0.3, 0.3])
    self.assertEqual(axes.get_xlabel(), "visit to r")

  def test_limits(self):
    figure = plotting.proposition_panels(root_frame())
    # Entropy: 0.99 drawn beside the predicted 1, at least 0.1 high, and 4% of air at either end.
    np.testing.assert_allclose(panel(figure, "Entropy over children").get_ylim(), [0.941, 1.049])
    low, high = panel(figure, "Distance from the solution").get_ylim()
    self.assertLess(low, 0.0)
    self.assertBetween(high, 0.02, 0.06)

  def test_excluded_seeds(self):
    frame = root_frame()
    measures = ["cycle_probability", "total_variation"]
    frame.loc[(frame["n"] == 3) & (frame["p"] == 0.1) & (frame["seed"] == 0), measures] = np.nan
    texts = legend_texts(plotting.proposition_panels(frame, measures))
    self.assertEqual(texts, ["n = 2", "n = 3 (2 of 3 seeds)", "n = 8", "student mean, 2-3 seeds, 95% t-interval",
                             "Proposition 1"])  # fmt: skip

  def test_nothing_overlaps(self):
    self.assert_nothing_overlaps(plotting.proposition_panels(root_frame(), title="Proposition 1"))
    self.assert_nothing_overlaps(plotting.proposition_panels(root_frame(num_seeds=1), ["cycle_is_argmax"]))


class PhaseDiagramTest(PlottingTestCase):
  def test_cells_are_means_over_seeds(self):
    frame = root_frame()
    is_cell = (frame["n"] == 3) & (frame["p"] == 0.2) & (frame["visit"] == 1)
    frame.loc[is_cell, "cycle_is_argmax"] = [0.0, 0.25, np.nan]
    frame.loc[(frame["n"] == 8) & (frame["p"] == 0.6), "cycle_is_argmax"] = np.nan
    figure = plotting.phase_diagram(frame, visits=[1])
    [mesh] = [x for x in figure.axes[0].collections if x.get_label() != "p = 1/(n + 1)"]
    share = mesh.get_array().reshape(3, 4)
    first = frame[frame["visit"] == 1]
    for (i, n), (j, p) in itertools.product(enumerate((2, 3, 8)), enumerate((0.1, 0.2, 0.3, 0.6))):
      values = first.loc[(first["n"] == n) & (first["p"] == p), "cycle_is_argmax"]
      if (n, p) != (8, 0.6):
        np.testing.assert_allclose(share[i, j], np.nanmean(values))
    self.assertEqual(share[1, 1], 0.125)
    np.testing.assert_array_equal(np.ma.getmaskarray(share), np.arange(12).reshape(3, 4) == 11)
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, [0.05, 0.15, 0.25, 0.45, 0.75])
    self.assertIn("no finite seed", legend_texts(figure))

  def test_the_line_crosses_every_row_at_the_threshold(self):
    axes = plotting.phase_diagram(root_frame()).axes[0]
    x, y = line(axes, "p = 1/(n + 1)").get_data()
    for row, n in enumerate((2, 3, 8)):
      np.testing.assert_allclose(x[2 * row : 2 * row + 2], 1 / (n + 1))
      np.testing.assert_allclose(y[2 * row : 2 * row + 2], [row - 0.5, row + 0.5])
    self.assertEqual([t.get_text() for t in axes.get_yticklabels()], ["2", "3", "8"])

  def test_visits_side_by_side(self):
    titles = [axes.get_title() for axes in plotting.phase_diagram(root_frame()).axes]
    self.assertEqual(titles, ["Visit 1 to r", "Visit 3 to r", "Visit 4 to r", ""])  # the last is the colour bar
    with self.assertRaisesRegex(ValueError, "visits=.9."):
      plotting.phase_diagram(root_frame(), visits=[9])

  @parameterized.parameters(([1],), ([1, 4],), (None,))
  def test_nothing_overlaps(self, visits):
    self.assert_nothing_overlaps(plotting.phase_diagram(root_frame(), visits, title="Phases"))

  def test_one_p(self):
    frame = root_frame()
    plotting.phase_diagram(frame[frame["p"] == 0.3]).draw_without_rendering()


class PairsTest(PlottingTestCase):
  def test_a_panel_per_group_and_a_line_per_kind_of_pairs(self):
    frame = pairs_frame("lag", "correlation")
    figure = plotting.correlation_by_lag(frame)
    for axes, pairs in itertools.product(figure.axes, ["one", "two"]):
      rows = frame[(frame["panel"] == axes.get_title()) & (frame["pairs"] == pairs)]
      self.assert_mean_and_band(axes, pairs, dict(rows.groupby("lag")["correlation"].apply(np.array)))
    self.assertEqual({axes.get_ylim() for axes in figure.axes}, {figure.axes[0].get_ylim()})
    self.assertNotIn("chance: exact teacher", legend_texts(figure))

  def test_chance_is_the_mean_over_seeds_and_a_kind_may_be_missing_from_a_panel(self):
    frame = pairs_frame("visit", "persistence")
    frame = frame[(frame["panel"] != "panel 1") | (frame["pairs"] != "two")]
    figure = plotting.persistence_by_visit(frame)
    rows = frame[(frame["panel"] == "panel 0") & (frame["pairs"] == "two")]
    expected = rows.groupby("visit")["chance"].mean()
    self.assert_line(panel(figure, "panel 0"), "two, chance", expected.index, expected)
    self.assertIn("chance: exact teacher", legend_texts(figure))

  @parameterized.parameters(2, 4, 6)
  def test_nothing_overlaps(self, num_panels):
    self.assert_nothing_overlaps(plotting.persistence_by_visit(pairs_frame("visit", "persistence", num_panels)))

  def test_a_missing_column(self):
    with self.assertRaisesRegex(ValueError, "column='correlation'"):
      plotting.correlation_by_lag(pairs_frame("lag", "persistence"))

  def test_persistence_and_correlation_by_step(self):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
      itertools.product(["one", "two"], range(3), [250, 500, 1000]), columns=["pairs", "seed", "step"]
    )
    measures = ("persistence", "chance", "correlation")
    frame = frame.assign(**{measure: rng.uniform(0.1, 0.9, len(frame)) for measure in measures})
    figure = plotting.pairs_by_step(frame)
    rows = frame[frame["pairs"] == "two"]
    for title, measure in {"Top-child persistence": "persistence", "Error correlation": "correlation"}.items():
      values = dict(rows.groupby("step")[measure].apply(np.array))
      self.assert_mean_and_band(panel(figure, title), "two", values)
    self.assert_line(panel(figure, "Top-child persistence"), "two, chance", *zip(
      *rows.groupby("step")["chance"].mean().items(), strict=True
    ))  # fmt: skip
    self.assert_nothing_overlaps(figure)


class TemperatureGridTest(PlottingTestCase):
  def test_a_column_per_group_with_its_own_legend_and_one_scale_a_row(self):
    frame, columns = walks_frame(), {"one": CONDITIONS[:1], "both": CONDITIONS}
    frame = frame[(frame["condition"] != CONDITIONS[0]) | (frame["seed"] > 0)]  # one seed fewer
    figure = plotting.temperature_grid(
      frame, MEASURES, columns, theory=theory_frame(), published=published_frame()
    )  # fmt: skip
    grid = np.array(figure.axes).reshape(len(MEASURES), 2)
    for (row, measure), (column, conditions) in itertools.product(enumerate(MEASURES), enumerate(columns.values())):
      axes = grid[row, column]
      self.assertEqual(axes.get_ylim(), grid[row, 0].get_ylim())
      for condition in conditions:
        values = dict(frame[frame["condition"] == condition].groupby("temperature")[measure].apply(np.array))
        self.assert_mean_and_band(axes, condition, values)
        top = max(band(axes, condition).values(), key=lambda ends: ends[1])[1]
        self.assertTrue(measure in ("reached", "root_loop_share") or top <= axes.get_ylim()[1])
    legends = [axes.get_legend() for axes in grid[0]]
    self.assertEqual([legend.get_title().get_text() for legend in legends], ["one", "both"])
    self.assertEqual([[text.get_text() for text in legend.get_texts()] for legend in legends], list(columns.values()))
    self.assertIn("published", legend_texts(figure))
    self.assertIn("exact teacher", legend_texts(figure))
    self.assert_nothing_overlaps(figure)

  def test_a_condition_that_is_not_there(self):
    with self.assertRaisesRegex(ValueError, "conditions=.'neither'."):
      plotting.temperature_grid(walks_frame(), MEASURES, {"one": ["neither"]})


FACTOR_COLUMNS = [
  plotting.Column("Correlation", "rho(1)", {"one walk": "own", "two walks": "other"}, reference=0.0),
  plotting.Column("Goal reached (accuracy)", "share", {"reached": "reached"}),
]


def factors_frame(num_seeds=3):
  rng = np.random.default_rng(4)
  values = [
    ("depth", "1"),
    ("depth", "2"),
    ("depth", "4"),
    ("graph", "in the prompt"),
    ("graph", "one, in the weights"),
  ]
  frame = pd.DataFrame(
    [(*value, seed) for value, seed in itertools.product(values, range(num_seeds))], columns=["factor", "value", "seed"]
  )
  measures = {name: rng.uniform(0.1, 0.9, len(frame)) for name in ("own", "other", "reached")}
  return frame.assign(is_base=frame["value"].isin(["2", "in the prompt"]), **measures)


class FactorChartTest(PlottingTestCase):
  def test_dots_and_intervals(self):
    frame = factors_frame()
    frame.loc[frame["value"] == "4", "other"] = np.nan
    figure = plotting.factor_chart(frame, FACTOR_COLUMNS)
    axes = figure.axes[0]  # depth, correlation
    self.assertEqual([text.get_text() for text in axes.get_yticklabels()], ["1", "2", "4"])
    self.assertEqual(figure.axes[2].get_ylabel(), "graph")
    for value, name in [("1", "own"), ("2", "other"), ("4", "own")]:
      values = frame.loc[(frame["factor"] == "depth") & (frame["value"] == value), name]
      label = f"{value}, {dict(own='one walk', other='two walks')[name]}"
      np.testing.assert_allclose(line(axes, label).get_xdata(), [values.mean()])
      expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
      ends = line(axes, f"{label}, 95% t-interval").get_xdata()
      np.testing.assert_allclose(ends, [expected.low, expected.high], rtol=1e-6)
    self.assertNotIn("4, two walks", labels(axes))  # no finite seed
    self.assertIn("mean, 3 seeds, 95% t-interval", legend_texts(figure))
    self.assertEqual(legend_texts(figure)[:2], ["one walk", "two walks"])
    self.assert_nothing_overlaps(figure)

  def test_one_seed_has_dots_alone(self):
    figure = plotting.factor_chart(factors_frame(num_seeds=1), FACTOR_COLUMNS)
    self.assertFalse([label for label in labels(figure.axes[0]) if "interval" in label])
    self.assertIn("one seed", legend_texts(figure))

  def test_a_row_that_is_there_twice(self):
    frame = factors_frame()
    with self.assertRaisesRegex(ValueError, "several rows of one factor, value, seed"):
      plotting.factor_chart(pd.concat([frame, frame]), FACTOR_COLUMNS)


class TrainingCurvesTest(PlottingTestCase):
  def test_means_and_bands(self):
    frame = history_frame()
    figure = plotting.training_curves(frame)
    axes = figure.axes[0]
    rows = frame[frame["condition"] == CONDITIONS[0]]
    self.assert_mean_and_band(axes, CONDITIONS[0], dict(rows.groupby("step")["loss"].apply(np.array)))
    self.assertEqual([axes.get_ylabel(), axes.get_xlabel()], ["nats per position", "training step"])
    self.assert_nothing_overlaps(figure)

  def test_a_seed_that_diverges_is_left_out_from_the_start(self):
    frame = history_frame()
    is_condition = frame["condition"] == CONDITIONS[0]
    frame.loc[is_condition & (frame["seed"] == 2) & (frame["step"] > 200), "loss"] = [np.inf, np.nan]
    figure = plotting.training_curves(frame)
    rows = frame[is_condition & (frame["seed"] < 2)]
    self.assert_mean_and_band(figure.axes[0], CONDITIONS[0], dict(rows.groupby("step")["loss"].apply(np.array)))
    self.assertIn(f"{CONDITIONS[0]} (2 of 3 seeds)", legend_texts(figure))

  def test_seeds_logged_at_different_steps_are_interpolated(self):
    frame = pd.DataFrame({
      "condition": "a", "seed": [0, 0, 0, 1, 1], "step": [1, 2, 3, 1, 3], "loss": [4.0, 2.0, 2.0, 6.0, 2.0],
    })  # fmt: skip
    self.assert_line(plotting.training_curves(frame).axes[0], "a", [1, 2, 3], [5.0, 3.0, 2.0])


class SaveTest(PlottingTestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def figure(self):
    return plotting.against_temperature(walks_frame(), MEASURES[:2], theory=theory_frame())

  def test_png_has_its_size_and_is_not_blank(self):
    figure = self.figure()
    plotting.save(figure, self.folder / "new" / "walks.v1")
    self.assertEqual({p.name for p in (self.folder / "new").iterdir()}, {"walks.v1.png", "walks.v1.svg"})
    with Image.open(self.folder / "new" / "walks.v1.png") as image:
      pixels = np.asarray(image.convert("RGB"), float)
    width, height = figure.get_size_inches()
    self.assertEqual(pixels.shape, (int(height * 150), int(width * 150), 3))
    self.assertGreater(pixels.std(axis=(0, 1)).min(), 5)
    for condition in CONDITIONS:  # its legend's line is drawn at full strength
      colour = 255 * np.array(colors.to_rgb(line(figure.axes[0], condition).get_color()))
      self.assertGreater(np.sum(np.abs(pixels - colour).max(axis=-1) < 3), 100)

  def test_svg_holds_its_text_as_text_and_no_date(self):
    plotting.save(self.figure(), self.folder / "walks")
    root = ElementTree.parse(self.folder / "walks.svg").getroot()
    texts = ["".join(x.itertext()).strip() for x in root.iter("{http://www.w3.org/2000/svg}text")]
    self.assertContainsSubset(["Goal reached (accuracy)", "Returns to s", "exact teacher", *CONDITIONS], texts)
    self.assertNotIn("<dc:date>", (self.folder / "walks.svg").read_text())

  def test_the_same_bytes_again(self):
    figure, again = self.figure(), self.figure()
    contents = []
    for name, one in {"a": figure, "b": figure, "c": again}.items():
      plotting.save(one, self.folder / name)
      contents.append([(self.folder / f"{name}.{kind}").read_bytes() for kind in ("png", "svg")])
    self.assertTrue(contents[0] == contents[1], "the same figure")  # assertEqual would take minutes to show the bytes
    self.assertTrue(contents[0] == contents[2], "a figure of the same frame")

  @parameterized.parameters(plotting.proposition_panels, plotting.phase_diagram)
  def test_the_same_bytes_again_at_the_root(self, plot):
    for name in ("a", "b"):
      plotting.save(plot(root_frame()), self.folder / name)
    for kind in ("png", "svg"):
      self.assertTrue(filecmp.cmp(self.folder / f"a.{kind}", self.folder / f"b.{kind}", shallow=False), kind)

  def test_a_users_own_layout_moves_nothing_once_the_layout_is_settled(self):
    figures = {"plain": self.figure(), "own": self.figure()}
    for name, own in (("plain", False), ("own", True)):
      with matplotlib.rc_context({"figure.constrained_layout.use": own}):
        plotting.save(figures[name], self.folder / name)
      self.assertIsNone(figures[name].get_layout_engine(), name)
    for kind in ("png", "svg"):
      self.assertTrue(filecmp.cmp(self.folder / f"plain.{kind}", self.folder / f"own.{kind}", shallow=False), kind)

  def test_global_settings_stay(self):
    before = dict(matplotlib.rcParams)
    plotting.save(self.figure(), self.folder / "walks")
    self.assertEqual(dict(matplotlib.rcParams), before)


class ImportTest(absltest.TestCase):
  def test_whoever_draws_nothing_does_not_wait_for_matplotlib(self):
    program = "import sys, experiments.sweep; sys.exit(bool({'matplotlib', 'seaborn'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", program], check=True)


if __name__ == "__main__":
  absltest.main()
