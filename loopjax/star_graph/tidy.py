"""From arrays of measures to tidy frames: a row for each student and each place on the other axes.

Shapes: S students; A, B, ... places on further axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


def frame(
  is_finite: np.ndarray, columns: Mapping[str, Any], *axes: Mapping[str, Sequence[Any] | np.ndarray]
) -> pd.DataFrame:
  """The measures as columns: first row (of the student), then what the axes say, then `columns`.

  Args:
    is_finite: [S] bool; the measures of a student that is not finite are NaN, but for those called num_pairs, counts.
    columns: name -> array [S, A, B, ...], on the host.
    axes: of each axis after the students', what its places are called: column -> values [A].
  """
  shape = (len(is_finite), *(len(next(iter(axis.values()))) for axis in axes))
  row, *places = (index.ravel() for index in np.indices(shape))
  made: dict[str, Any] = {"row": row}
  for axis, place in zip(axes, places, strict=True):
    made |= {name: np.asarray(values)[place] for name, values in axis.items()}
  for name, values in columns.items():
    flat = np.broadcast_to(np.asarray(values), shape).ravel()
    is_count = name.endswith("num_pairs")
    made[name] = flat.astype(np.int64) if is_count else np.where(is_finite[row], flat.astype(np.float64), np.nan)
  return pd.DataFrame(made)
