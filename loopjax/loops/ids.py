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


def place_type(num_units: int) -> type[np.integer]:
  """The integers that hold a place in a sequence: those of 32 bits up to 2^31 units, which take half the memory."""
  return np.int32 if num_units < 2**31 else np.int64


def places_where(mask: np.ndarray) -> np.ndarray:
  """[M], ascending, where a mask [N] is true."""
  return np.flatnonzero(mask).astype(place_type(mask.size), copy=False)


def dense(ids: Ids) -> np.ndarray | None:
  """[N], uint64: ids as ranks among the ids that occur; None where they are spread over more than N / 4 integers.

  A table of these integers is then small beside the ids. Of up to 1,024 integers it is small in any case.
  """
  lowest, highest = int(ids.min()), int(ids.max())
  if highest - lowest >= max(1_024, ids.size // 4):
    return None
  above = (ids.astype(np.uint64) - np.uint64(lowest % 2**64)).view(np.int64)  # modulo 2^64, so of any integer type
  ranks = np.cumsum(np.bincount(above) > 0).astype(np.uint64) - np.uint64(1)
  return ranks[above]
