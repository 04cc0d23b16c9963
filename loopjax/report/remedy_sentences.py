"""What a leaderboard says of each base, in sentences: which remedies help, and which of them repair the error.

A remedy of training *repairs* the error where its students are nearer to the teacher at the root than plain students
are: the whole interval of the ratio of their distances lies below 1. It *departs* from the teacher where the whole
interval lies above 1: its students have learnt another law. A remedy of decoding leaves the error, and *hides* it where
it makes walks shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from loopjax.leaderboard import BETTER, REFERENCE, UNDECIDED, WORSE

REPAIRS, DEPARTS, HIDES = "repairs", "departs", "hides"


def of_board(frame: pd.DataFrame) -> list[tuple[str, list[str]]]:
  """The bases in their order, each with what its rows say; `leaderboard.check` tells which columns they must have."""
  return [(str(base), of_base(rows)) for base, rows in frame.groupby("base", sort=False)]


def as_text(frame: pd.DataFrame) -> str:
  """The sentences for a terminal, base by base."""
  return "\n".join("\n  ".join([base, *sentences]) for base, sentences in of_board(frame))


def of_base(rows: pd.DataFrame) -> list[str]:
  """What the rows of one base say: the best temperature, the chosen settings' verdicts, their errors, the defaults."""
  plain = rows[rows["verdict"] == REFERENCE].iloc[0]
  chosen = rows[rows["is_chosen"]]
  first = [
    f"The best temperature is {plain['temperature']:g}: a walk is then {plain['excess_length']:.3g} times as long as"
    " the exact teacher's.",
    f"Plain students are {plain['root_kl']:.2g} nats from the teacher at the root.",
  ]
  return [*first, *_of_verdicts(chosen), *_of_errors(chosen), *_of_defaults(rows)]


def effect_on_error(row: Mapping[str, Any]) -> str:
  """`REPAIRS`, `DEPARTS` or `UNDECIDED` of training; `HIDES` of decoding that helps; else, and of plain students,
  empty."""
  if row["kind"] == "decoding":
    return HIDES if row["verdict"] == BETTER else ""
  if row["kind"] != "training":
    return ""
  if row["root_kl_ratio_high"] < 1:
    return REPAIRS
  return DEPARTS if row["root_kl_ratio_low"] > 1 else UNDECIDED


def _of_verdicts(chosen: pd.DataFrame) -> list[str]:
  better, worse, undecided = (_names(chosen, chosen["verdict"] == verdict) for verdict in (BETTER, WORSE, UNDECIDED))
  said = [_said(better, "is better than the best temperature", "are better than the best temperature")]
  if not better:
    said = ["No remedy is better than the best temperature."]
  if undecided:
    said.append(f"The seeds do not tell {_joined(undecided)} from the best temperature.")
  return [*said, _said(worse, "is worse", "are worse")] if worse else said


def _of_errors(chosen: pd.DataFrame) -> list[str]:
  effects = pd.Series([effect_on_error(row) for row in chosen.to_dict("records")], chosen.index, dtype=object)
  repairs, departs, hides, unclear = (
    _names(chosen, effects == effect) for effect in (REPAIRS, DEPARTS, HIDES, UNDECIDED)
  )
  said = ["No remedy is seen to repair the error at the root."]
  if repairs:
    said = [_said(repairs, "repairs the error: its students are", "repair the error: their students are", _NEARER)]
  if departs:
    said.append(
      _said(departs, "teaches another law: its students are", "teach another law: their students are", _FARTHER)
    )
  if hides:
    said.append(_said(hides, "only hides the error, as", "only hide the error, as", " decoding changes no student"))
  if unclear:
    said.append(f"Whether students of {_joined(unclear)} are nearer to the teacher at the root is not decided.")
  return said


_NEARER = " nearer to the teacher at the root than plain students"
_FARTHER = " farther from the teacher at the root than plain students"


def _of_defaults(rows: pd.DataFrame) -> list[str]:
  """The remedies that are better as they were chosen and not as they come."""
  better = set(rows.loc[rows["is_chosen"] & (rows["verdict"] == BETTER), "remedy"])
  is_lost = rows["is_default"] & ~rows["is_chosen"] & (rows["verdict"] != BETTER) & rows["remedy"].isin(better)
  names = _names(rows, is_lost)
  if not names:
    return []
  return [_said(names, "is not better at its default setting", "are not better at their default settings")]


def _names(rows: pd.DataFrame, mask: pd.Series) -> list[str]:
  return list(map(str, rows.loc[mask, "remedy"]))


def _said(names: Sequence[str], one: str, several: str, rest: str = "") -> str:
  """A sentence about the names."""
  joined = _joined(names)
  return f"{joined[:1].upper()}{joined[1:]} {one if len(names) == 1 else several}{rest}."


def _joined(names: Sequence[str]) -> str:
  return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
