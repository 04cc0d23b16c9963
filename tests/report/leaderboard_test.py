"""The leaderboard on the page: what its sentences say of known cases, its order, and that it is only text."""

from __future__ import annotations

import html.parser
import json
import math
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import pandas as pd
from absl.testing import absltest, parameterized

from loopjax import report
from loopjax.leaderboard import BETTER, REFERENCE, UNDECIDED, WORSE
from loopjax.report import leaderboard, remedy_sentences
from loopjax.runtime import files

EVIL = '</td><script>alert("1")</script>'
SCRIPT = pathlib.Path(leaderboard.__file__).with_name("sorting.js")


def row(remedy: str, verdict: str, ratio: float = 1.0, error: tuple[float, float] = (0.9, 1.1), **more) -> dict:
  """A row of a leaderboard; `error` are the ends of the ratio of the students' errors."""
  values = dict.fromkeys(leaderboard.NUMBERS, 0.5) | {"root_kl": 0.2, "temperature": 0.4, "excess_length": 1.5}
  texts = {"base": "risk aversion", "remedy": remedy, "kind": "training", "setting": f"{remedy}(1)", "verdict": verdict}
  ends = {"ratio": ratio, "root_kl_ratio_low": error[0], "root_kl_ratio_high": error[1], "equal_temperature": 0.3}
  return values | texts | {"is_chosen": True, "is_default": True} | ends | more


def plain(base: str = "risk aversion") -> dict:
  one = row("temperature alone", REFERENCE, base=base, kind=REFERENCE, is_chosen=False, is_default=False)
  return one | {"root_kl_ratio_low": math.nan, "root_kl_ratio_high": math.nan}


def board(*rows: dict) -> pd.DataFrame:
  return leaderboard.check(pd.DataFrame([*rows, plain()]))


class Cells(html.parser.HTMLParser):
  """The rows of the table: of each cell its data-sort and its text."""

  def __init__(self, text: str):
    super().__init__()
    self.rows, self.tags, self.is_inside = [], set(), False
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append([dict(attrs).get("data-sort"), ""])
      self.is_inside = True

  def handle_endtag(self, tag):
    self.is_inside &= tag not in ("td", "th")

  def handle_data(self, data):
    if self.is_inside:
      self.rows[-1][-1][1] += data


def cells(frame: pd.DataFrame) -> list[dict[str, list[str]]]:
  """Of every row of the body: title -> data-sort and text."""
  head, *body = Cells(leaderboard.table(frame)).rows
  return [dict(zip([text for _, text in head], one, strict=True)) for one in body]


def said(*rows: dict) -> str:
  ((_, sentences),) = remedy_sentences.of_board(board(*rows))
  return " ".join(sentences)


class SentencesTest(parameterized.TestCase):
  def test_verdicts(self):
    text = said(row("a", BETTER), row("b", UNDECIDED), row("c", UNDECIDED), row("d", UNDECIDED), row("e", WORSE))
    for sentence in (
      "The best temperature is 0.4: a walk is then 1.5 times as long as the exact teacher's.",
      "A is better than the best temperature.",
      "The seeds do not tell b, c and d from the best temperature.",
      "E is worse.",
    ):
      self.assertIn(sentence, text)

  def test_none_is_better(self):
    text = said(row("a", WORSE), row("b", WORSE))
    self.assertIn("No remedy is better than the best temperature. A and b are worse.", text)
    self.assertIn("No remedy is seen to repair the error", text)
    self.assertNotRegex(text, "hide|seeds")

  @parameterized.parameters(
    (BETTER, "training", (0.5, 0.9), remedy_sentences.REPAIRS, "A repairs the error: its students are nearer"),
    (WORSE, "training", (0.5, 0.9), remedy_sentences.REPAIRS, "A repairs the error"),
    (BETTER, "training", (0.9, 1.1), UNDECIDED, "Whether students of a are nearer to the teacher"),
    (BETTER, "training", (1.1, 1.3), remedy_sentences.DEPARTS, "A teaches another law: its students are farther"),
    (BETTER, "decoding", (1.0, 1.0), remedy_sentences.HIDES, "A only hides the error"),
    (BETTER, "training", (-math.inf, math.inf), UNDECIDED, "is not decided."),
    (BETTER, "training", (math.nan, math.nan), UNDECIDED, "is not decided."),
    (UNDECIDED, "training", (1.1, 1.3), remedy_sentences.DEPARTS, "A teaches another law: its students are farther"),
    (WORSE, "decoding", (1.0, 1.0), "", "No remedy is seen to repair"),
  )
  def test_effect_on_the_error(self, verdict, kind, error, effect, sentence):
    one = row("a", verdict, error=error, kind=kind)
    self.assertEqual(remedy_sentences.effect_on_error(one), effect)
    self.assertIn(sentence, said(one))

  def test_a_default_that_is_not_better_is_named_and_does_not_count(self):
    chosen, default = row("a", BETTER, is_default=False), row("a", UNDECIDED, is_chosen=False)
    text = said(chosen, default)
    self.assertIn("A is not better at its default setting.", text)
    self.assertNotIn("do not tell", text)
    self.assertNotIn("default", said(chosen, row("a", BETTER, is_chosen=False)))

  def test_bases_speak_for_themselves(self):
    frame = pd.DataFrame([row("a", BETTER), plain(), row("a", WORSE, base="other"), plain("other")])
    text = remedy_sentences.as_text(leaderboard.check(frame))
    self.assertRegex(text, "(?s)^risk aversion\n.*A is better.*\nother\n.*A is worse")


class TableTest(parameterized.TestCase):
  def test_the_best_comes_first_and_a_default_after_its_choice(self):
    rows = [
      row("c", BETTER, 0.7, base="z"), row("a", WORSE, 1.3), row("b", BETTER, 0.8, is_chosen=False),
      row("b", BETTER, 0.5, is_default=False), row("d", BETTER, 0.6), plain("z"), plain(),
    ]  # fmt: skip
    shown = cells(leaderboard.check(pd.DataFrame(rows)))
    names = [(one["base"][1], one["remedy"][0]) for one in shown]
    first = [("z", "c"), ("z", "temperature alone")]
    second = [("risk aversion", name) for name in ("b", "b", "d", "temperature alone", "a")]
    self.assertEqual(names, first + second)
    self.assertEqual([one["remedy"][1] for one in shown[2:4]], ["b", "bdefault setting"])
    self.assertEqual([float(one["over best T"][0]) for one in shown[2:]], [0.5, 0.8, 0.6, 1.0, 1.3])

  def test_values_are_shown_and_sorted_by(self):
    one = cells(board(row("a", BETTER, 0.61234, ratio_low=0.5, ratio_high=0.7, trained_positions=901775.5)))[0]
    self.assertEqual(one["over best T"], ["0.61234", "0.612 [0.5, 0.7]"])
    self.assertEqual(one["training positions"], ["901775.5", "901,776"])
    self.assertEqual(one["verdict"], ["0", "✓ better"])
    self.assertEqual(one["setting"], ["a(1)", "a(1)the default"])
    self.assertEndsWith(one["loops at equal success"][1], "plain at T = 0.3")

  def test_what_is_not_known_is_a_dash(self):
    unknown = dict.fromkeys(("teacher_divergence", "loops_at_equal_success", "equal_temperature", "holm"), math.nan)
    one = cells(board(row("a", BETTER, **unknown)))[0]
    for title in ("damage in nats", "Holm p"):
      self.assertEqual(one[title], ["", "–"])
    self.assertStartsWith(one["loops at equal success"][1], "–")
    reference = cells(board())[0]
    self.assertEqual((reference["verdict"][1], reference["setting"][1]), ("• reference", "–"))

  def test_few_seeds_bound_nothing(self):
    one = cells(board(row("a", UNDECIDED, ratio_low=0.0, ratio_high=math.inf, excess_length=math.inf)))[0]
    self.assertEqual(one["over best T"][1], "1 [0, ∞]")
    self.assertEqual(one["excess length"], ["Infinity", "∞"])

  def test_text_of_the_frame_is_text(self):
    frame = board(row(EVIL, BETTER, kind=EVIL, setting=EVIL), row("b", EVIL))
    text = leaderboard.section(frame)
    self.assertNotIn("<script", text)
    self.assertNotIn("script", Cells(text).tags)
    self.assertEqual(cells(frame)[0]["kind"], [EVIL, EVIL])

  @parameterized.parameters(*leaderboard.COLUMNS)
  def test_a_missing_column_is_named(self, column):
    with self.assertRaisesRegex(ValueError, f"has no column '{column}'; a leaderboard must have base, remedy"):
      leaderboard.check(pd.DataFrame([row("a", BETTER), plain()]).drop(columns=column))

  def test_what_is_no_leaderboard_is_named(self):
    for change, message in (
      ({"ratio": "x"}, "column 'ratio' holds what is no number"), ({"is_chosen": 2}, "neither true nor false"),
      ({"base": "another"}, "base 'another' must have one row with the verdict 'reference'"),
    ):  # fmt: skip
      with self.assertRaisesRegex(ValueError, message):
        leaderboard.check(pd.DataFrame([row("a", BETTER) | change, plain()]))


class PageTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    record = {"config": {}, "provenance": {}}
    files.write_json(record, self.folder / "results" / "remedies.json")

  def written(self, frame: pd.DataFrame) -> tuple[list[str], str]:
    files.write_parquet(frame, self.folder / "results" / "remedies_leaderboard.parquet")
    problems = report.write(self.folder, self.folder / "report.html", {"remedies": "What stops loops."})
    return problems, (self.folder / "report.html").read_text(encoding="utf-8")

  def test_it_stands_in_the_section_of_its_experiment(self):
    problems, text = self.written(board(row("a", BETTER)))
    self.assertFalse([problem for problem in problems if "leaderboard" in problem], problems)
    section = text[text.index('id="of-remedies"') :]
    self.assertIn("A is better than the best temperature.", section[: section.index("</section>")])
    self.assertIn(SCRIPT.read_text(encoding="utf-8"), text)

  def test_what_is_no_leaderboard_costs_one_line(self):
    problems, text = self.written(board(row("a", BETTER)).drop(columns="holm"))
    (line,) = [problem for problem in problems if "leaderboard" in problem]
    self.assertRegex(line, "remedies_leaderboard.parquet: has no column 'holm'")
    self.assertIn("What stops loops.", text)
    self.assertNotIn("Leaderboard of remedies", text)

  def test_the_box_scrolls_and_not_the_page(self):
    self.assertIn('<div class="scroller" tabindex="0" role="region"', leaderboard.table(board()))
    style = SCRIPT.with_name("style.css").read_text(encoding="utf-8")
    self.assertRegex(style, r"\.scroller \{ overflow-x: auto;")


_DOCUMENT = """
const cell = (key) => ({ getAttribute: () => key });
const head = (text) => ({
  textContent: text, attributes: {}, getAttribute(name) { return this.attributes[name] ?? null; },
  setAttribute(name, value) { this.attributes[name] = value; }, removeAttribute(name) { delete this.attributes[name]; },
  replaceChildren(button) { this.button = button; },
});
const rows = KEYS.map((keys) => ({ cells: keys.map(cell), keys }));
const body = { rows, append(...sorted) { this.rows = sorted; } };
const heads = ["name", "number"].map(head), hint = { hidden: true };
const table = { tHead: { rows: [{ cells: heads }] }, tBodies: [body] };
globalThis.document = {
  querySelectorAll: (selector) => (selector === "table.sortable" ? [table] : [hint]),
  createElement: () => ({ addEventListener(_, listener) { this.click = listener; } }),
};
"""
_CLICKS = """
const seen = [1, 1, 0].map((column) => {
  heads[column].button.click();
  return [body.rows.map((row) => row.keys[column]), heads.map((one) => one.getAttribute("aria-sort"))];
});
console.log(JSON.stringify({ seen, hidden: hint.hidden, titles: heads.map((one) => one.button.textContent) }));
"""


class SortingTest(absltest.TestCase):
  def test_a_click_sorts_and_the_next_the_other_way_round(self):
    node = shutil.which("node")
    if node is None:
      raise unittest.SkipTest("node is not installed")
    keys = [["b", "10"], ["C", ""], ["a", "9"], ["d", "-Infinity"], ["e", "1e-7"]]
    code = f"const KEYS = {json.dumps(keys)};{_DOCUMENT}{SCRIPT.read_text(encoding='utf-8')}{_CLICKS}"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=False, timeout=60)
    self.assertEqual(done.returncode, 0, done.stderr)
    found = json.loads(done.stdout)
    up, down, by_name = found["seen"]
    self.assertEqual(up, [["-Infinity", "1e-7", "9", "10", ""], [None, "ascending"]])
    self.assertEqual(down, [["10", "9", "1e-7", "-Infinity", ""], [None, "descending"]])
    self.assertEqual(by_name, [["a", "b", "C", "d", "e"], ["ascending", None]])
    self.assertEqual((found["hidden"], found["titles"]), (False, ["name", "number"]))


if __name__ == "__main__":
  absltest.main()
