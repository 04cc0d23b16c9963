"""Figures of a scan: the names of real models, which are long, cover nothing and leave nothing."""

from __future__ import annotations

from absl.testing import absltest, parameterized

from loopjax.plotting import pieces
from loopjax.traces import columns, compare, figures, measure, summary
from tests.plotting import pieces_test
from tests.plotting.plotting_test import PlottingTestCase
from tests.traces.compare_test import rows

MODELS = ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "open-thoughts/OpenThinker3-1.5B", "teacher")


def found(temperatures: tuple[float | None, ...]) -> dict:
  curve = [0.5] * (measure.BEFORE + measure.AFTER)
  made = columns.of_rows([
    row | {"confidence": curve, "recurrence_fired": 20} for model in MODELS for temperature in temperatures
    for row in rows(model, temperature, {"a": [1, 0], "b": [0, 0], "c": [1]})
  ])  # fmt: skip
  shape = {"n": list(measure.STAIRCASE), "k": list(summary.TIMES)}
  return {
    "table": summary.summarise(made), "pair": compare.pair(made, MODELS[0], MODELS[1]),
    "confidence": compare.confidence(made), "map": shape,
  }  # fmt: skip


class FiguresTest(PlottingTestCase):
  @parameterized.product(name=list(figures._FIGURES), temperatures=[(None,), (0.6,), (0.0, 0.6)])
  def test_nothing_overlaps_and_every_piece_can_be_read(self, name, temperatures):
    figure = figures._FIGURES[name][2](found(temperatures))
    self.assert_nothing_overlaps(figure)
    figure.set_layout_engine("none")
    for piece in pieces.find(figure):
      self.assertLessEqual(piece.box.width, pieces_test.WIDEST)

  def test_owners_are_named_where_names_are_not_enough(self):
    short = figures._short_names([{"model": "a/one"}, {"model": "a/one"}, {"model": None}])
    self.assertEqual(short, {"a/one": "one", "unknown model": "unknown model"})
    self.assertEqual(list(figures._short_names([{"model": "a/x"}, {"model": "b/x"}]).values()), ["a/x", "b/x"])

  def test_a_bar_for_each_row_with_its_interval(self):
    drawn = found((0.6,))
    figure = figures._draw_models(drawn)
    for axes, name in zip(figure.axes, figures._MEASURES, strict=True):
      for bar, row in zip(axes.patches, drawn["table"], strict=True):
        self.assertAlmostEqual(bar.get_width(), row[name]["share"])
      self.assertEqual([line.get_xdata()[1] for line in axes.lines], [row[name]["high"] for row in drawn["table"]])
    names = ["DeepSeek-R1-Distill-\nQwen-1.5B, T = 0.6", "OpenThinker3-1.5B, T = 0.6", "teacher, T = 0.6"]
    self.assertEqual([tick.get_text() for tick in figure.axes[0].get_yticklabels()], names)


if __name__ == "__main__":
  absltest.main()
