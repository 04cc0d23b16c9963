"""What a table of claims says, in sentences: mechanism by mechanism."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from loopjax import claims

_SAID = {
  claims.FAILS: "This fails",
  claims.UNDECIDED: "The seeds do not decide this",
  claims.UNFIT: "This was not judged, since students had not learnt what it is about",
}


def groups(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
  """The claims that were run, family by family in the order in which they come."""
  was_run = frame[frame["verdict"] != claims.NOT_RUN]
  return [(str(family), rows) for family, rows in was_run.groupby("family", sort=False)]


def of_family(rows: pd.DataFrame) -> list[str]:
  """What the claims of one family say: how many hold, and each that does not."""
  total, holding = len(rows), int((rows["verdict"] == claims.HOLDS).sum())
  said = [f"{'All' if holding == total else holding or 'None'} of {total} claims hold."]
  if total == 1:
    said = ["The one claim holds."] if holding else []
  for verdict, words in _SAID.items():
    for row in rows[rows["verdict"] == verdict].to_dict("records"):
      said.append(f"{words}: {row['description'].rstrip('.')} ({row['condition']}).")
  return said


def conclusion(frame: pd.DataFrame) -> str:
  """The whole table as plain text; a line for each claim that was run, one for all others."""
  lines = []
  for family, rows in groups(frame):
    lines += [family, *(f"  {sentence}" for sentence in of_family(rows))]
    lines += [f"    {_line(row)}" for row in rows.to_dict("records")] + [""]
  not_run = int((frame["verdict"] == claims.NOT_RUN).sum())
  if not_run:
    lines.append(f"Not run, for want of a larger preset or of what they read: {not_run} of {len(frame)} claims.")
  return "\n".join(lines).rstrip()


def _line(row: Mapping[str, Any]) -> str:
  sign = "<" if row["direction"] == "below" else ">"
  measured = f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
  why = f"; {row['unfit_because']}" if row["verdict"] == claims.UNFIT else ""
  return f"{row['verdict']:<10} {row['claim']:<52} {measured}, holds if {sign} {row['bound']:.3g}{why}"
