"""The page of a scan: one HTML file that works offline, in which every number leads to its responses.

Responses stand in the file as blocks of packed JSON, which the browser unpacks when it shows them; so a hundred
thousand fit. The page is written block by block: memory holds one block and a few numbers a response.
"""

from __future__ import annotations

import base64
import json
import string
import zlib
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from loopjax.loops.describe import CLASSES
from loopjax.plotting import inline
from loopjax.runtime import files
from loopjax.traces import scan, summary, table
from loopjax.traces.columns import Columns, Row
from loopjax.traces.text import percent

_HERE = Path(__file__).parent
BLOCK = 250  # responses
MANY, SHORT = 20_000, 300  # with more responses, those that do not loop are shown by their first characters
_CELLS = (
  ("by_recurrence", "Recurrence", "recurrence"), ("by_locked_cycle", "Locked cycle", "cycle"), ("cut", "Cut", "cut"),
  ("lost", "Lost", "lost"), ("unknown_ending", "Unknown ending", "unknown"),
  ("unclosed_thought", "Unclosed thought", "unclosed"), ("accuracy", "Accuracy", "right"),
)  # fmt: skip
_INDEX = (
  "line", "sample", "num_units", "recurrence_fired", "recurrence_onset", "cycle_onset", "cycle_period",
  "cycle_repetitions", "is_unclosed", "label",
)  # fmt: skip


def write(output_dir: Path, columns: Columns, found: dict[str, Any], figures: dict[str, str]) -> None:
  """Writes `report.html` from the parts of a scan.

  Args:
    output_dir: the folder of the scan.
    columns: of all responses.
    found: the summary.
    figures: name -> caption of the SVG files in `figures`.
  """
  head, tail = _template(output_dir, found, figures).split("<!--data-->")

  def write_all(temporary: Path) -> None:
    with open(temporary, "w", encoding="utf-8") as file:
      file.write(head)
      index = _write_blocks(file, output_dir, columns)
      file.write(_script("index", index))
      file.write(tail)

  files.write_atomically(output_dir / "report.html", write_all)


def _template(output_dir: Path, found: dict[str, Any], figures: dict[str, str]) -> str:
  rows = found["table"]
  return string.Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
    style=(_HERE / "page.css").read_text(encoding="utf-8") + inline.STYLE,
    script=(_HERE / "page.js").read_text(encoding="utf-8"),
    facts=_facts(found),
    shares=_shares(rows),
    classes=_classes(rows),
    figures="".join(_figure(output_dir, name, caption) for name, caption in figures.items()),
    problems=_problems(found["problems"]),
  )


def _facts(found: dict[str, Any]) -> str:
  settings = found["settings"]
  facts = (
    f"responses: {sum(row['responses'] for row in found['table'])}", f"files: {len(found['files'])}",
    f"recurrence ({settings['n']}, {settings['k']})", f"locked cycles of {settings['min_length']} units or more",
  )  # fmt: skip
  return "".join(f"<li>{escape(fact)}</li>" for fact in facts)


def _button(group: int, kind: str, text: str) -> str:
  return f'<button type="button" data-group="{group}" data-kind="{escape(kind)}">{escape(text)}</button>'


def _heads(row: dict[str, Any]) -> str:
  temperature = "?" if row["temperature"] is None else f"{row['temperature']:g}"
  return f'<th scope="row">{escape(row["model"] or "unknown")}<small>T = {temperature}, {row["units"]}</small></th>'


def _shares(rows: Sequence[dict[str, Any]]) -> str:
  lines = []
  for group, row in enumerate(rows):
    cells = [_button(group, "all", str(row["responses"])), str(row["problems"])]
    cells += [_button(group, kind, percent(row[name])) if row[name] else "-" for name, _, kind in _CELLS]
    for name, kind in (("mean_length_looping", "looping"), ("mean_length_other", "other")):
      cells.append("-" if row[name] is None else _button(group, kind, f"{row[name]:.0f}"))
    lines.append(_line(row, cells))
  titles = ("Responses", "Problems", *(f"{title}, %" for _, title, _ in _CELLS), "Length: looping", "Length: other")
  return _table(titles, lines)


def _classes(rows: Sequence[dict[str, Any]]) -> str:
  lines = [
    _line(
      row,
      [
        _button(group, f"class {name}", percent(row["classes"][name])) if row["classes"][name] else "-"
        for name in CLASSES
      ],
    )
    for group, row in enumerate(rows)
  ]
  return _table([f"{name.capitalize()}, %" for name in CLASSES], lines)


def _line(row: dict[str, Any], cells: Sequence[str]) -> str:
  return f"<tr>{_heads(row)}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _table(titles: Sequence[str], lines: Sequence[str]) -> str:
  heads = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
  body = f'<thead><tr><th scope="col">Model</th>{heads}</tr></thead><tbody>{"".join(lines)}</tbody>'
  return f'<div class="scroller" tabindex="0" role="region" aria-label="Table, scrolls"><table>{body}</table></div>'


def _figure(output_dir: Path, name: str, caption: str) -> str:
  text = (output_dir / "figures" / f"{name}.svg").read_text(encoding="utf-8")
  return f"<figure>{inline.inline(text, name, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def _problems(problems: dict[str, Any]) -> str:
  counts = ", ".join(f"{num} {kind}" for kind, num in sorted(problems["counts"].items()))
  if not counts:
    return ""
  named = "".join(f"<li>{escape(one)}</li>" for named in problems["named"].values() for one in named[:200])
  return f"<section><h2>Records without a response</h2><p>{escape(counts)}.</p><ul class=named>{named}</ul></section>"


def _write_blocks(file: TextIO, output_dir: Path, columns: Columns) -> dict[str, Any]:
  """Writes the blocks of texts; returns the index of all responses."""
  index: dict[str, list[Any]] = {name: [] for name in (*_INDEX, "problem", "file", "ending", "class")}
  places: dict[str, dict[str, int]] = {name: {} for name in ("problem", "file", "ending", "class")}
  block: list[tuple[str, str]] = []
  number, is_long = 0, len(columns) > MANY
  for row in _rows(output_dir):
    for name in _INDEX:
      index[name].append(_plain(row[name]))
    for name, known in places.items():
      value = row["loop_class" if name == "class" else name] or ""
      index[name].append(known.setdefault(value, len(known)))
    block.append(_shown(row, is_long))
    if len(block) == BLOCK:
      file.write(_script(f"block-{number}", block))
      number, block = number + 1, []
  file.write(_script(f"block-{number}", block))
  index["sample"] = columns["sample"].astype(int).tolist()
  return {**index, "group": _groups(columns), "names": {name: list(found) for name, found in places.items()}}


def _rows(output_dir: Path) -> Iterator[Row]:
  for path in scan.part_files(output_dir):
    yield from table.read_part(path)[0]


def _plain(value: Any) -> Any:
  return round(value, 2) if isinstance(value, float) else int(value) if isinstance(value, bool) else value


def _groups(columns: Columns) -> list[int]:
  """The row of the summary's table that each response belongs to."""
  found = np.zeros(len(columns), int)
  for number, group in enumerate(summary.groups(columns)):
    found[group.rows] = number
  return found.tolist()


def _shown(row: Row, is_short: bool) -> tuple[str, str]:
  """Prompt and excerpt of a response."""
  prompt, excerpt = row["prompt"] or "", row["excerpt"]
  if is_short:
    prompt = prompt[:SHORT]
    segments, loop, length = json.loads(excerpt) or ([], None, 0)
    if loop is None:
      excerpt = json.dumps([[[start, text[:SHORT]] for start, text in segments[:1]], None, length])
  return prompt, excerpt


def _script(name: str, value: Any) -> str:
  """JSON, packed by zlib and written in base 64, as an element that does not run."""
  packed = base64.b64encode(zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)).decode()
  return f'<script type="text/plain" id="{name}">{packed}</script>\n'
