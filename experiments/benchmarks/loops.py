"""Times of the detectors of loops against a plain NumPy hash-and-sort that verifies nothing, in pairs.

    python -m experiments.benchmarks.loops --champ=champ_dataset-1.0.0-py3-none-any.whl

The plain solution hashes all 30-grams, sorts the hashes and gives the largest count. Each time of ours stands beside
one of the plain solution that was taken directly before; the ratio is the median of such pairs. Inputs of a million
ids: ranks by Zipf's law; a text whose second half repeats one block; and the responses of the CHAMP data set, joined,
by characters and by words, where `--champ` names its wheel (PyPI `champ-dataset`).

Bars: recurrence (30, 20) 1.2 times the plain solution, the staircase 4 times, cycles 3 times; on the looping text 3.6,
12 and 9 times; ten times the input at most 15 times the time; 40 bytes a unit; online 1,000,000 ids a second in blocks
of 256 and 200,000 one by one.
"""

from __future__ import annotations

import json
import statistics
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
from absl import app, flags

from loopjax.loops import cycles, hashes, ngrams, online, units, variants

_CHAMP = flags.DEFINE_string("champ", "", "The wheel of champ-dataset; left out where empty.")
_PAIRS = flags.DEFINE_integer("pairs", 5, "Pairs of times for each ratio.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 1_000_000, "Ids of an input.", lower_bound=1000)

LENGTHS = (5, 10, 20, 30, 50, 100, 200, 400)

Detector = Callable[[np.ndarray], object]
DETECTORS: dict[str, Detector] = {
  "recurrence": ngrams.recurrence,
  "staircase": lambda ids: ngrams.staircase(ids, LENGTHS),
  "cycles": cycles.longest_cycle,
  "variants": variants.longest_variant,
}


def plain(ids: np.ndarray, n: int = 30) -> int:
  """The largest count of a hash of n-grams: nothing is verified, and no place is known."""
  sums = np.zeros(ids.size + 1, np.uint64)
  np.cumsum(ids.astype(np.uint64) * hashes.powers(hashes.BASE, ids.size), out=sums[1:])
  found = sums[n:] - sums[:-n]
  found[1:] *= hashes.powers(hashes.INVERSE, found.size - 1)
  found.sort()
  ends = np.flatnonzero(found[1:] != found[:-1])
  return int(np.diff(ends, prepend=-1, append=found.size - 1).max())


def zipf(size: int) -> np.ndarray:
  return (np.random.default_rng(0).zipf(1.2, size) % 50_000).astype(np.int32)


def looping(size: int) -> np.ndarray:
  draw = np.random.default_rng(1)
  start, block = draw.integers(0, 50_000, size - size // 2), draw.integers(0, 50_000, 137)
  return np.concatenate([start, np.tile(block, size // 137)[: size // 2]]).astype(np.int32)


def champ_text(wheel: str) -> str:
  """All responses of the data set, one a line."""
  with zipfile.ZipFile(wheel) as archive:
    name = next(name for name in archive.namelist() if name.endswith("v0.json"))
    return "\n".join(_responses(json.loads(archive.read(name))))


def _responses(node: object) -> Iterator[str]:
  if isinstance(node, dict):
    if isinstance(node.get("text"), str) and node.get("role") != "user":
      yield node["text"]
    node = list(node.values())
  for child in node if isinstance(node, list) else []:
    yield from _responses(child)


def _seconds(call: Callable[[], object]) -> float:
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def _bytes_per_unit(detector: Detector, ids: np.ndarray) -> float:
  tracemalloc.start()
  detector(ids)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return peak / ids.size


def compare(name: str, ids: np.ndarray) -> None:
  """Prints a line a detector: its milliseconds, its ratio to the plain solution, bytes a unit."""
  for detector_name, detector in DETECTORS.items():
    pairs = [(_seconds(lambda: plain(ids)), _seconds(lambda d=detector: d(ids))) for _ in range(_PAIRS.value)]  # type: ignore[misc]
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    ours, size = min(ours for _, ours in pairs) * 1e3, _bytes_per_unit(detector, ids)
    print(
      f"{name:18s} {detector_name:12s} {ours:8.0f} ms {ratio:7.2f} times plain {size:7.1f} bytes a unit", flush=True
    )


def growth(name: str, make: Callable[[int], np.ndarray]) -> None:
  """Prints by how much the time grows from one input to one ten times as long."""
  small, large = make(_SIZE.value), make(10 * _SIZE.value)
  for detector_name, detector in DETECTORS.items():
    times = [min(_seconds(lambda i=ids, d=detector: d(i)) for _ in range(2)) for ids in (small, large)]  # type: ignore[misc]
    print(f"{name:18s} {detector_name:12s} {times[1] / times[0]:8.1f} times as long for ten times the ids", flush=True)


def watching(name: str, ids: np.ndarray) -> None:
  """Prints how many ids a second the online detector takes in."""
  blocks, one, single = online.CycleWatch(), online.CycleWatch(), ids[: ids.size // 5].tolist()
  in_blocks = _seconds(lambda: [blocks.extend(ids[i : i + 256]) for i in range(0, ids.size, 256)])
  one_by_one = _seconds(lambda: [one.append(token) for token in single])
  print(
    f"{name:18s} online {ids.size / in_blocks:14,.0f} ids/s in blocks of 256 {len(single) / one_by_one:12,.0f} alone"
  )


def main(argv: list[str]) -> None:
  del argv
  inputs = {"Zipf": zipf(_SIZE.value), "loop to the end": looping(_SIZE.value)}
  if _CHAMP.value:
    text = champ_text(_CHAMP.value)
    inputs["CHAMP, characters"] = units.characters(text[: _SIZE.value]).ids
    inputs["CHAMP, words"] = units.words(text[: 6 * _SIZE.value]).ids[: _SIZE.value]
  for name, ids in inputs.items():
    compare(name, ids)
  for name, ids in inputs.items():
    watching(name, ids)
  for name, make in (("Zipf", zipf), ("loop to the end", looping)):
    growth(name, make)


if __name__ == "__main__":
  app.run(main)
