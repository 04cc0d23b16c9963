"""The table of a scan: a row per model, temperature and units; and what is compared between rows.

A lost response is in no share of looping responses, on either side. Enumerations are no loops.

Shapes: R responses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from loopjax.loops.describe import CLASSES
from loopjax.traces import measure
from loopjax.traces.columns import Columns
from loopjax.traces.intervals import Share, share
from loopjax.traces.trace import Ending

TIMES = (3, 5, 10, 20, 50, 100)  # the k of the (n, k) map


class Group(NamedTuple):
  """The responses of one model at one temperature, measured in one kind of units; `rows` are their places."""

  model: str
  temperature: float | None
  units: str
  rows: np.ndarray


def groups(columns: Columns) -> list[Group]:
  """All groups, by model and temperature. Lost responses are with the units of their model's others."""
  units = _units(columns)
  temperatures = columns["temperature"].tolist()
  places: dict[tuple[str, float, str], list[int]] = {}
  for i, (model, temperature) in enumerate(zip(columns["model"], temperatures, strict=True)):
    places.setdefault((model, -1.0 if math.isnan(temperature) else temperature, units[i]), []).append(i)
  return [Group(m, None if t < 0 else t, u, np.array(places[m, t, u])) for m, t, u in sorted(places)]


def _units(columns: Columns) -> list[str]:
  usual = {model: kind for model, kind in zip(columns["model"], columns["units"], strict=True) if kind is not None}
  return [kind or usual.get(model, "none") for model, kind in zip(columns["model"], columns["units"], strict=True)]


def is_looping(columns: Columns) -> np.ndarray:
  """Which responses have one of `measure.LOOPS`, [R]: 1 or 0, NaN where the response is lost."""
  return _among_loops(columns["loop_class"])


def summarise(columns: Columns) -> list[dict[str, Any]]:
  """The rows of the table, as JSON can hold them; null where there is nothing to say."""
  problems = np.unique(columns["problem"].astype(str), return_inverse=True)[1] if len(columns) else np.zeros(0, int)
  looping, is_lost = is_looping(columns), columns["ending"] == Ending.LOST
  indicators = dict(_indicators(columns, looping, is_lost))
  return [_row(group, columns, problems, looping, indicators) for group in groups(columns)]


def _indicators(columns: Columns, looping: np.ndarray, is_lost: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
  """What the table has the shares of, [R] each: 1 or 0, NaN where a response does not count."""
  yield "looping", looping
  yield "by_recurrence", np.where(is_lost, np.nan, ~np.isnan(columns["recurrence_fired"]))
  yield "by_locked_cycle", np.where(is_lost, np.nan, ~np.isnan(columns["cycle_onset"]))
  yield "cut", (columns["ending"] == Ending.LENGTH).astype(float)
  yield "stopped_for_repetition", (columns["ending"] == Ending.REPETITION).astype(float)
  yield "lost", is_lost.astype(float)
  yield "unknown_ending", (columns["ending"] == Ending.UNKNOWN).astype(float)
  yield "unclosed_thought", columns["is_unclosed"]
  yield "accuracy", columns["label"]
  yield "looping_in_reasoning", _among_loops(columns["reasoning_class"])
  yield "looping_in_answer", _among_loops(columns["answer_class"])
  yield from ((f"class {name}", np.where(is_lost, np.nan, columns["loop_class"] == name)) for name in CLASSES)


def _among_loops(classes: np.ndarray) -> np.ndarray:
  return np.array([math.nan if one is None else one in measure.LOOPS for one in classes], np.float64)


def _row(
  group: Group, columns: Columns, problems: np.ndarray, looping: np.ndarray, indicators: dict[str, np.ndarray]
) -> dict[str, Any]:  # fmt: skip
  at = group.rows
  lengths, loops = columns["num_units"][at], looping[at]
  shares = {name: as_json(share(values[at], problems[at])) for name, values in indicators.items()}
  return {
    "model": group.model,
    "temperature": group.temperature,
    "units": group.units,
    "responses": len(at),
    "problems": len(np.unique(problems[at])),
    **{name: value for name, value in shares.items() if not name.startswith("class ")},
    "mean_length_looping": _mean(lengths[loops == 1]),
    "mean_length_other": _mean(lengths[loops == 0]),
    "classes": {name.removeprefix("class "): value for name, value in shares.items() if name.startswith("class ")},
    "map": count_map(columns.counts[at]),
  }


def as_json(one: Share) -> dict[str, Any] | None:
  """A share as JSON; None where no response counts, null ends where there is no interval."""
  if not one.num:
    return None
  ends = [None if math.isnan(end) else end for end in (one.low, one.high)]
  return {"share": one.share, "low": ends[0], "high": ends[1], "num": one.num, "problems": one.num_problems}


def _mean(values: np.ndarray) -> float | None:
  return float(values.mean()) if len(values) else None


def count_map(counts: np.ndarray) -> list[list[float]] | None:
  """The (n, k) map: the share of responses with c(n) >= k, a list for each n of `measure.STAIRCASE`, over `TIMES`.

  Args:
    counts: [R, N], -1 where the response is lost.
  """
  counts = counts[counts[:, 0] >= 0]
  if not len(counts):
    return None
  return [[float((column >= k).mean()) for k in TIMES] for column in counts.T]
