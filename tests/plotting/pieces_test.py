"""What a page shows of a figure on a narrow screen: all of it, nothing cut off, no text too small to be read."""

from __future__ import annotations

import functools
import itertools
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from matplotlib.transforms import Bbox

from loopjax import plotting
from loopjax.plotting import inline, panels, pieces
from tests.plotting import plotting_test as examples

SVG = "{http://www.w3.org/2000/svg}"
TELEPHONE = 320.0  # pixels of a figure on a screen of 390
WIDEST = 7 * TELEPHONE / 9  # units: a text of 7 units is then 9 pixels high


def _factors():
  keys = itertools.product(("positions", "teacher explores"), ("rotary, base 10", "none"), range(3))
  frame = pd.DataFrame(keys, columns=["factor", "value", "seed"]).assign(is_base=False, one=0.3, two=0.5)
  columns = [plotting.Column(f"Column {i}", "share", {"one": "one", "two": "two"}) for i in range(4)]
  return plotting.factor_chart(frame, columns, title="Factors")


def _with_colour_bar():
  figure, [*both] = panels.new_panels(2)
  images = [axes.imshow(np.eye(3)) for axes in both]
  figure.colorbar(images[0], ax=both)
  return figure


FIGURES = {
  "temperature": lambda: plotting.against_temperature(
    examples.walks_frame(), examples.MEASURES, theory=examples.theory_frame(), title="Walks"
  ),
  "grid": lambda: plotting.temperature_grid(
    examples.walks_frame(), examples.MEASURES, {"A title": examples.CONDITIONS[:1], "Both": examples.CONDITIONS}
  ),
  "proposition": lambda: plotting.proposition_panels(examples.root_frame()),
  "phases": lambda: plotting.phase_diagram(examples.root_frame(), title="Phases"),
  "pairs": lambda: plotting.persistence_by_visit(examples.pairs_frame("visit", "persistence")),
  "factors": _factors,
  "colour bar": _with_colour_bar,
}


@functools.cache
def settled(name):
  figure = FIGURES[name]()
  figure.draw_without_rendering()
  figure.set_layout_engine("none")
  return figure


def texts_by_element(figure):
  """The texts that are seen, by the id of the element that they belong to."""
  for axes in figure.axes:
    ticks = [t for axis in (axes.xaxis, axes.yaxis) for t in examples.visible_tick_labels(axis)]
    legend = [] if axes.get_legend() is None else axes.get_legend().get_texts()
    labels = [axes.title, axes.xaxis.label, axes.yaxis.label, axes.yaxis.get_offset_text()]
    yield axes.get_gid(), [*labels, *ticks, *legend]
  for legend in figure.legends:
    yield legend.get_gid(), [legend.get_title(), *legend.get_texts()]
  for text in figure.texts:
    yield text.get_gid(), [text]


def in_units(figure, extent):
  scale, height = 72 / figure.dpi, figure.get_figheight() * 72
  return Bbox.from_extents(scale * extent.x0, height - scale * extent.y1, scale * extent.x1, height - scale * extent.y0)


class PiecesTest(parameterized.TestCase):
  @parameterized.parameters(*FIGURES)
  def test_every_text_and_panel_is_whole_in_some_piece(self, name):
    figure = settled(name)
    found = pieces.find(figure)
    windows = [window for piece in found for window in piece.windows]
    for element, texts in texts_by_element(figure):
      extents = {t.get_text(): t.get_window_extent() for t in texts if t.get_text() and t.get_visible()}
      for text, extent in extents.items():
        box = in_units(figure, extent)
        shown = [w for w in windows if w.element == element and examples.within(box, w.box, slack=0.1)]
        self.assertNotEmpty(shown, f"{text!r} of {element}")
    for axes in figure.axes:
      box = in_units(figure, axes.bbox)
      shown = [w for w in windows if w.element == axes.get_gid() and examples.within(box, w.box, slack=0.1)]
      self.assertLen(shown, 1)
    for piece in found:
      for window in piece.windows:
        self.assertTrue(examples.within(window.box.translated(window.shift, 0), piece.box, slack=0.1))

  @parameterized.parameters(*FIGURES)
  def test_its_smallest_text_can_be_read_on_a_telephone(self, name):
    for piece in pieces.find(settled(name)):
      self.assertLessEqual(piece.box.width, WIDEST)

  def test_a_figure_of_one_panel_fits_as_it_is(self):
    figure = plotting.against_temperature(examples.walks_frame(), ["reached"])
    self.assertEmpty(pieces.find(figure))
    self.assertLessEqual(figure.get_figwidth() * 72, WIDEST)

  def test_they_are_in_reading_order(self):
    order = [piece.windows[0].element for piece in pieces.find(settled("temperature"))]
    groups = [element for element, _ in itertools.groupby(order)]
    self.assertEqual(groups, ["legend_1", "panel_1", "panel_2", "panel_3", "panel_4", "legend_2"])
    self.assertEqual(order.count("legend_1"), 3)  # the title and two conditions
    self.assertEqual(order.count("legend_2"), 3)  # students and two learners

  def test_axes_stand_below_each_other(self):
    figure = settled("proposition")
    shown = [piece for piece in pieces.find(figure) if piece.windows[0].element.startswith("panel")]
    distances = [in_units(figure, a.bbox).x0 - p.box.x0 for a, p in zip(figure.axes, shown, strict=True)]
    np.testing.assert_allclose(distances, distances[0])
    np.testing.assert_allclose([piece.box.width for piece in shown], shown[0].box.width)

  @parameterized.parameters(("phases", 3, 1), ("grid", 2, 4), ("factors", 4, 2))
  def test_each_column_has_the_labels_that_stand_at_the_first_alone(self, name, num_columns, num_rows):
    figure = settled(name)
    shown = [piece for piece in pieces.find(figure) if piece.windows[0].element.startswith("panel")][:num_columns]
    first = {window.element for window in shown[0].windows}
    self.assertLen(first, num_rows)
    for place, piece in enumerate(shown[1:], start=1):
      lent, own = piece.windows[:num_rows], piece.windows[num_rows:]
      self.assertEqual({window.element for window in lent}, first)
      self.assertEqual([w.element for w in own], [f"panel_{1 + place + num_columns * i}" for i in range(num_rows)])
      spine = in_units(figure, figure.axes[place].bbox).x0
      for window in lent:  # left of the panel, at its edge
        self.assertBetween(spine - window.box.x1 - window.shift, -4, 8)


class SavedTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def saved(self, name):
    plotting.save(FIGURES[name](), self.folder / "figure")
    return (self.folder / "figure.svg").read_text(encoding="utf-8")

  @parameterized.parameters(*FIGURES)
  def test_the_file_has_them_and_what_they_show(self, name):
    text = self.saved(name)
    root = ElementTree.fromstring(text)
    ids = {element.get("id") for element in root.iter()}
    symbols = list(root.iter(f"{SVG}symbol"))
    self.assertLen(symbols, len(pieces.find(settled(name))))
    for symbol in symbols:
      for use in symbol.iter(f"{SVG}use"):
        self.assertIn(use.get("{http://www.w3.org/1999/xlink}href").removeprefix("#"), ids)
    self.assertLess(sum(len(ElementTree.tostring(symbol)) for symbol in symbols), 600 * len(symbols) + 2500)

  def test_a_page_shows_the_whole_or_the_pieces(self):
    page = ElementTree.fromstring(inline.inline(self.saved("phases"), "phases", 'A "label"'))
    self.assertEqual((page.get("class"), page.get("aria-label")), ("drawing in-pieces", 'A "label"'))
    whole, shown = page
    self.assertEqual(shown.get("class"), "pieces")
    boxes = {symbol.get("id"): symbol.get("viewBox").split()[2:] for symbol in whole.iter("symbol")}
    for svg in shown:
      left, top, *size = svg.get("viewBox").split()
      [use] = svg
      self.assertEqual((left, top, size), ("0", "0", boxes[use.get("href").removeprefix("#")]))
    self.assertLen(shown, len(boxes))
    self.assertNotEmpty([image for image in whole.iter("image") if image.get("href").startswith("data:image/png")])

  def test_its_style_lets_nothing_be_wider_than_the_page(self):
    always, narrow = inline.STYLE.split(f"@media (max-width: {inline.NARROW}px)")
    self.assertRegex(always, r"\.drawing > svg, \.pieces > svg \{[^}]*max-width: 100%")
    self.assertRegex(always, r"\.pieces \{ display: none; flex-wrap: wrap")
    self.assertRegex(narrow, r"\.in-pieces > svg \{ position: absolute; width: 0; height: 0; \}")
    self.assertRegex(narrow, r"\.pieces \{ display: flex; \}")
    self.assertNotIn("min-width", always)
    self.assertNotRegex(narrow, r"display: none")

  @parameterized.parameters("symbol id='piece_1'", "symbol id='piece_1' viewBox='0 0 1 x'", "g id='piece_1'")
  def test_what_is_no_piece_is_not_shown(self, element):
    text = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><{element}/></svg>"
    self.assertNotRegex(inline.inline(text, "name", "label"), "<use|pieces")


if __name__ == "__main__":
  absltest.main()
