"""The leaderboard of remedies: conclusions base by base, and one table that can be sorted.

Every cell carries what it is sorted by as `data-sort`; a cell without a value has it empty, and `sorting.js` keeps such
cells last. Without a script the table is a plain one, its best rows first in every base.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from loopjax import results
from loopjax.leaderboard import BETTER, REFERENCE, UNDECIDED, WORSE
from loopjax.report import remedy_sentences
from loopjax.report.verdicts import number, pill

SUFFIX = "_leaderboard"  # of the names of tables that are shown so
TEXTS = ("base", "remedy", "kind", "setting", "verdict")
FLAGS = ("is_chosen", "is_default")
_BADGES = {BETTER: ("✓", "holds"), WORSE: ("✗", "fails"), UNDECIDED: ("?", "undecided"), REFERENCE: ("•", "other")}
_ERRORS = {
  remedy_sentences.REPAIRS: "repairs the error", remedy_sentences.DEPARTS: "teaches another law",
  remedy_sentences.HIDES: "hides the error", UNDECIDED: "not decided whether it repairs",
}  # fmt: skip


class Head(NamedTuple):
  """A column of the table.

  Attributes:
    title: what stands above it.
    about: what it is, one sentence.
    column: of the frame; with `has_interval`, its ends are in columns ..._low and ..._high.
    has_interval: whether an interval stands beneath the value.
    spec: the format of numbers; None: three digits.
  """

  title: str
  about: str
  column: str
  has_interval: bool = False
  spec: str | None = None


HEADS = (
  Head("base", "The task.", "base"),
  Head("remedy", "What is done against loops.", "remedy"),
  Head("kind", "Decoding changes how students walk. Training changes what they have learnt.", "kind"),
  Head("setting", "The remedy's own numbers.", "setting"),
  Head("T", "The temperature of the walks, chosen with the setting.", "temperature"),
  Head("verdict", "Better or worse where Holm's p is below 0.05. Else the seeds do not decide.", "verdict"),
  Head("excess length", "Nodes to the goal over the exact teacher's. A walk without the goal counts as long as the "
       "cut.", "excess_length"),
  Head("over best T", "The excess length over that of plain students at the best temperature: the median over seeds "
       "with its 95% interval. Below 1 is better.", "ratio", True),
  Head("Holm p", "Of the sign test, adjusted for all rows of the table.", "holm"),
  Head("reached", "Walks that reach the goal.", "reached"),
  Head("broken", "Walks that end with an invalid move.", "broken"),
  Head("cut", "Walks that are cut.", "cut"),
  Head("root loops", "Nodes in windows s, r, s.", "root_loop_share"),
  Head("locked cycles", "Nodes in a block that repeats three times or more.", "locked_cycle_share"),
  Head("persistence", "Pairs of visits to r with the same likeliest child.", "persistence"),
  Head("root KL", "Nats between teacher and student at the root, before any decoding.", "root_kl"),
  Head("root KL over plain", "The same over plain students': the median over seeds with its 95% interval, which is not "
       "adjusted for the number of rows. Wholly below 1, the remedy repairs the error.", "root_kl_ratio", True),
  Head("damage in nats", "How far the remedy moves the exact teacher, in nats a node. Of decoding alone.",
       "teacher_divergence"),
  Head("damage in length", "The excess length of the exact teacher under the remedy. Of decoding alone.",
       "teacher_excess_length"),
  Head("forward passes", "Of the student in a walk, hints and candidates counted.", "forward_passes"),
  Head("training positions", "Positions that the students were trained on.", "trained_positions", False, ",.0f"),
  Head("loops at equal success", "Locked cycles less those of plain students that reach the goal as often: the median "
       "over seeds with its 95% interval. Below 0 is better. A dash: at no temperature do they reach it as often.",
       "loops_at_equal_success", True),
)  # fmt: skip
NUMBERS = tuple(
  name
  for head in HEADS
  if head.column not in TEXTS
  for name in (head.column, *([f"{head.column}_low", f"{head.column}_high"] if head.has_interval else []))
)
COLUMNS = (*TEXTS, *FLAGS, *NUMBERS, "equal_temperature")


def read(path: Path) -> pd.DataFrame:
  """The leaderboard in a Parquet file; a one-line `ValueError` that names the file where it is none."""
  try:
    return check(results.read_frame(path))
  except ValueError as error:
    text = str(error)
    raise ValueError(text if str(path) in text else f"{path}: {text}") from error


def check(frame: pd.DataFrame) -> pd.DataFrame:
  """The frame, its texts as text and its numbers as numbers.

  Raises:
    ValueError: a column of `COLUMNS` is missing or holds what it cannot, or a base has no row of plain students.
  """
  missing = [column for column in COLUMNS if column not in frame.columns]
  if missing:
    raise ValueError(f"has no column {missing[0]!r}; a leaderboard must have {', '.join(COLUMNS)}")
  frame = frame.copy()
  for column in (*NUMBERS, "equal_temperature"):
    try:
      frame[column] = pd.to_numeric(frame[column]).astype(float)
    except (ValueError, TypeError) as error:
      raise ValueError(f"column {column!r} holds what is no number: {error}") from error
  for column in FLAGS:
    if not frame[column].isin([True, False]).all():
      raise ValueError(f"column {column!r} holds what is neither true nor false")
  texts, flags = list(TEXTS), list(FLAGS)
  frame[texts], frame[flags] = frame[texts].astype(str), frame[flags].astype(bool)
  plain = frame.loc[frame["verdict"] == REFERENCE, "base"]
  for base in frame["base"].unique():
    if (plain == base).sum() != 1:
      raise ValueError(f"base {base!r} must have one row with the verdict {REFERENCE!r}, of plain students")
  return frame


def section(frame: pd.DataFrame) -> str:
  """Conclusions and table as HTML, of a frame that `check` has passed."""
  said = "".join(
    f"<h4>{escape(base[:1].upper() + base[1:])}</h4><ul class=prose>{_items(sentences)}</ul>"
    for base, sentences in remedy_sentences.of_board(frame)
  )
  columns = "".join(f"<dt>{head.title}</dt><dd>{head.about}</dd>" for head in HEADS)
  return f"""<h3>Leaderboard of remedies</h3>
{said}
<p class="hint">A row per base and remedy. A line under a row's remedy says where it is not the chosen setting.
<span class="needs-script" hidden>A click on a column's title sorts.</span></p>
{table(frame)}
<details><summary>What the columns are</summary><dl class="prose">{columns}</dl></details>"""


def _items(sentences: list[str]) -> str:
  return "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)


def table(frame: pd.DataFrame) -> str:
  """The rows in a box that scrolls by itself, for `sorting.js` and without it."""
  heads = "".join(f'<th scope="col">{head.title}</th>' for head in HEADS)
  rows = "\n".join(_row(row) for row in in_order(frame).to_dict("records"))
  return f"""<div class="scroller" tabindex="0" role="region" aria-label="Leaderboard, scrolls">
<table class="board sortable"><caption>Remedies against the best temperature</caption>
<thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div>"""


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
  """Base by base, the best first; a default that was not chosen comes right after the chosen setting."""
  chosen = frame[frame["is_chosen"]].drop_duplicates(["base", "remedy"])[["base", "remedy", "ratio"]]
  keys = frame[["base", "remedy", "is_chosen"]].merge(chosen, how="left", on=["base", "remedy"])
  keys = keys.assign(
    base=pd.factorize(frame["base"])[0], ratio=keys["ratio"].fillna(frame["ratio"].reset_index(drop=True)),
    is_chosen=~keys["is_chosen"],
  )  # fmt: skip
  order = keys.sort_values(["base", "ratio", "remedy", "is_chosen"], kind="stable").index
  return frame.iloc[order].reset_index(drop=True)


def _row(row: Mapping[str, Any]) -> str:
  kind = "reference" if row["verdict"] == REFERENCE else "chosen" if row["is_chosen"] else "default"
  cells = "".join(_SPECIAL.get(head.column, _cell)(row, head) for head in HEADS)
  return f'<tr class="{kind}">{cells}</tr>'


def _cell(row: Mapping[str, Any], head: Head) -> str:
  """A text, or a number with its interval."""
  if head.column in TEXTS:
    return f'<td data-sort="{escape(row[head.column])}">{escape(row[head.column])}</td>'
  return _number_cell(row, head)


def _number_cell(row: Mapping[str, Any], head: Head, hint: str = "") -> str:
  value = row[head.column]
  shown = number(value) if head.spec is None or not math.isfinite(value) else format(value, head.spec)
  if head.has_interval and not math.isnan(row[f"{head.column}_low"]):
    low, high = (number(row[f"{head.column}_{end}"]) for end in ("low", "high"))
    shown += f' <span class="interval">[{low}, {high}]</span>'
  return f'<td data-sort="{_as_key(value)}">{shown}{_hint(hint)}</td>'


def _as_key(value: float) -> str:
  """A number the way scripts read it; empty where there is none."""
  return "" if math.isnan(value) else repr(float(value)).replace("inf", "Infinity")


def _remedy(row: Mapping[str, Any], head: Head) -> str:
  name = escape(row[head.column])
  hint = "at its best temperature" if row["verdict"] == REFERENCE else "" if row["is_chosen"] else "default setting"
  return f'<th scope="row" data-sort="{name}">{name}{_hint(hint)}</th>'


def _setting(row: Mapping[str, Any], head: Head) -> str:
  text = "" if row["verdict"] == REFERENCE else escape(row[head.column])
  hint = "the default" if row["is_default"] and row["is_chosen"] else ""
  return f'<td data-sort="{text}">{f"<code>{text}</code>" if text else "–"}{_hint(hint)}</td>'


def _verdict(row: Mapping[str, Any], head: Head) -> str:
  word = row[head.column]
  order = list(_BADGES).index(word) if word in _BADGES else len(_BADGES)
  return f'<td data-sort="{order}">{pill(word, *_BADGES.get(word, ("•", "other")))}</td>'


def _error(row: Mapping[str, Any], head: Head) -> str:
  return _number_cell(row, head, _ERRORS.get(remedy_sentences.effect_on_error(row), ""))


def _equal(row: Mapping[str, Any], head: Head) -> str:
  temperature = row["equal_temperature"]
  return _number_cell(row, head, "" if math.isnan(temperature) else f"plain at T = {temperature:g}")


def _hint(text: str) -> str:
  return f'<span class="hint">{escape(text)}</span>' if text else ""


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any], Head], str]] = {
  "remedy": _remedy, "setting": _setting, "verdict": _verdict, "root_kl_ratio": _error,
  "loops_at_equal_success": _equal,
}  # fmt: skip
