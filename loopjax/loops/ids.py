"""What the package takes as a sequence of ids, and how it holds places in one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loopjax.runtime.config import require

Ids = np.ndarray  # [N], of an integer type


def as_ids(ids: np.ndarray | Sequence[int]) -> Ids:
  """A sequence of ids as an array [N] of integers.

  Raises:
    ValueError: it has another number of axes, or holds something else than integers.
  """
  array = np.asarray(ids)
  require(array.ndim == 1, "ids", f"an array with {array.ndim} axes", "a sequence, with one axis")
  if not array.size:
    return np.zeros(0, np.int64)
  require(array.dtype.kind in "iu", "ids", f"an array of {array.dtype}", "integers")
  return array


def places_where(mask: np.ndarray) -> np.ndarray:
  """[M], ascending, where a mask [N] is true; in half the memory of `np.flatnonzero` up to 2^31 units."""
  return np.flatnonzero(mask).astype(np.int32 if mask.size < 2**31 else np.int64, copy=False)
