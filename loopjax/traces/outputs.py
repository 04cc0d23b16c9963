"""The summary of a scan as JSON, and the files of its folder: summary, figures, page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from loopjax.runtime import files
from loopjax.traces import compare, measure
from loopjax.traces import summary as summaries
from loopjax.traces.columns import Columns
from loopjax.traces.scan import Problems, Source


def summary(
  columns: Columns, problems: Problems, source: Source, settings: measure.Settings, pair: tuple[str, str] = ("", "")
) -> dict[str, Any]:  # fmt: skip
  """Everything that a scan says, as JSON holds it.

  Args:
    columns: of all responses.
    problems: what gave no response.
    source: what was read.
    settings: the measures.
    pair: student and teacher to compare; empty for none.

  Raises:
    ValueError: student or teacher is no model of the scan.
  """
  return {
    "files": list(map(measure.clean, source.files)),
    "settings": dataclasses.asdict(settings),
    "problems": {"counts": dict(problems.counts), "named": problems.named},
    "table": summaries.summarise(columns),
    "map": {"n": list(measure.STAIRCASE), "k": list(summaries.TIMES)},
    "pair": compare.pair(columns, *pair) if all(pair) else [],
    "difficulty": compare.difficulty(columns),
    "confidence": compare.confidence(columns),
  }


def write(output_dir: Path, columns: Columns, found: dict[str, Any]) -> None:
  """Writes `summary.json`, `figures/*.svg` and `report.html`."""
  from loopjax.traces import figures, page

  files.write_json(found, output_dir / "summary.json")
  if found["table"]:
    drawn = figures.write(output_dir / "figures", found)
    page.write(output_dir, columns, found, drawn)
