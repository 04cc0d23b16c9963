"""The table of claims: verdict as word, mark and colour, and why; the numbers behind it, also drawn to scale."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import pandas as pd

from loopjax import claims

MARKS = {claims.HOLDS: "✓", claims.FAILS: "✗", claims.UNDECIDED: "?", claims.UNFIT: "!", claims.NOT_RUN: "–"}
_WIDTH, _HEIGHT, _EDGE = 150.0, 26.0, 8.0
_SHAPES = {
  "null": f"{_HEIGHT / 2 - 4:g}h4v8h-8v-8z",
  "predicted": f"{_HEIGHT / 2 - 5:g}l5 9h-10z",
  "published": f"{_HEIGHT / 2 - 5:g}l5 5l-5 5l-5-5z",
}  # what a value is compared with, beside the bound: square, triangle and diamond, from the middle of their upper edge
_REFERENCES = tuple(_SHAPES)
HEADS = ("verdict", "claim", "median [95% interval]", "holds if", *_REFERENCES, "seeds beyond", "to scale")


def number(value: float) -> str:
  """Three significant digits; infinity as its sign, NaN as a dash."""
  if math.isnan(value):
    return "–"
  return f"{value:.3g}".replace("inf", "∞").replace("-", "−")


def badge(verdict: str) -> str:
  """The verdict as a word with its mark; the colour comes on top."""
  kind = verdict.replace(" ", "-") if verdict in MARKS else "other"
  return pill(verdict, MARKS.get(verdict, "•"), kind)


def pill(word: str, mark: str, kind: str) -> str:
  """A word with its mark, in the colours of a class of `style.css`."""
  return f'<span class="badge {kind}"><span aria-hidden="true">{mark}</span> {escape(word)}</span>'


def summary(frame: pd.DataFrame) -> str:
  """How many claims have each verdict."""
  counts = frame["verdict"].astype(str).value_counts()
  order = [verdict for verdict in MARKS if verdict in counts] + [v for v in counts.index if v not in MARKS]
  return " ".join(f"<li>{badge(verdict)} <b>{counts[verdict]}</b></li>" for verdict in order)


def table(frame: pd.DataFrame, caption: str) -> str:
  """The claims of the frame, in its order."""
  heads = "".join(f'<th scope="col">{head}</th>' for head in HEADS)
  rows = "\n".join(_row(row) for row in frame.to_dict("records"))
  return f"""<table class="claims"><caption>{escape(caption)}</caption>
<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"""


def _row(row: dict[str, Any]) -> str:
  sign = {"below": "&lt;", "above": "&gt;"}.get(str(row["direction"]), escape(str(row["direction"])))
  interval = "" if math.isnan(row["low"]) else f"[{number(row['low'])}, {number(row['high'])}]"
  references = "\n".join(f'<td data-label="{name}">{number(row[name])}</td>' for name in _REFERENCES)
  return f"""<tr>
<td>{badge(str(row["verdict"]))}{_hints(_beside_the_verdict(row))}</td>
<th scope="row"><span class="claim">{escape(str(row["description"]))}</span>
<span class="hint">{escape(str(row["condition"]))}</span>
<span class="hint"><code>{escape(str(row["claim"]))}</code>, {escape(str(row["source"]))}</span></th>
<td data-label="median">{number(row["value"])} <span class="interval">{interval}</span></td>
<td data-label="holds if">{sign} {number(row["bound"])}</td>
{references}
<td data-label="seeds beyond">{_seeds(row)}</td>
<td class="scale">{_scale(row)}</td>
</tr>"""


def _hints(lines: list[str]) -> str:
  return "".join(f'<span class="hint">{escape(line)}</span>' for line in lines)


def _beside_the_verdict(row: dict[str, Any]) -> list[str]:
  """Why students are not fit; and the verdict adjusted for the claim's family, where it is another."""
  lines = [str(row["unfit_because"])] if row["verdict"] == claims.UNFIT else []
  if row["holm_verdict"] != row["verdict"]:
    lines.append(f"{row['holm_verdict']} among the {number(row['family_size'])} claims of {row['family']}")
  return lines


def _seeds(row: dict[str, Any]) -> str:
  """How many seeds of how many; those without a value are seeds too."""
  undefined, known = row["seeds_undefined"], row["num_seeds"]
  text = f"{number(row['seeds_beyond'])} of {number(known + undefined)}" if known + undefined > 0 else "–"
  return text + _hints([f"{number(undefined)} without a value"] if undefined > 0 else [])


def _scale(row: dict[str, Any]) -> str:
  """Interval, bound and references on one line, for the eye alone: the numbers stand beside."""
  if math.isnan(row["value"]):
    return ""
  ends = [row[name] for name in ("value", "low", "high", "bound", *_REFERENCES) if math.isfinite(row[name])]
  low, high = min(ends), max(ends)
  span = (high - low) or 1.0

  def place(value: float) -> float:
    inside = min(max(value, low - span), high + span)  # infinite ends run off the line
    return round(min(max(_EDGE + (_WIDTH - 2 * _EDGE) * (inside - low) / span, 0), _WIDTH), 1)

  middle, bound = _HEIGHT / 2, place(row["bound"])
  side = f'x="0" width="{bound}"' if row["direction"] == "below" else f'x="{bound}" width="{_WIDTH - bound:.1f}"'
  parts = [f'<rect class="side" {side} y="0" height="{_HEIGHT:g}"/>']
  parts.append(f'<path class="bound" d="M{bound} 0V{_HEIGHT:g}"/>')
  if not math.isnan(row["low"]):
    parts.append(f'<path class="line" d="M{place(row["low"])} {middle}H{place(row["high"])}"/>')
  for name in _REFERENCES:
    if math.isfinite(row[name]):
      parts.append(f'<path class="{name}" d="M{place(row[name])} {_SHAPES[name]}"/>')
  parts.append(f'<circle class="value" cx="{place(row["value"])}" cy="{middle}" r="4"/>')
  return f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" aria-hidden="true">{"".join(parts)}</svg>'
