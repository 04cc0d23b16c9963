"""Rules of processors in plain Python, one text at a time; `history` is the text so far, its newest token last."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ngram_banned(history: Sequence[int], n: int, vocabulary: int) -> set[int]:
  """The tokens that would complete an n-gram of the history."""
  if n < 1 or len(history) < n:
    return set()
  had = [tuple(history[i : i + n]) for i in range(len(history) - n + 1)]
  return {v for v in range(vocabulary) if (*history[len(history) - n + 1 :], v) in had}


def common_end(left: Sequence[int], right: Sequence[int]) -> int:
  """How many tokens two texts have in common at their ends."""
  count = 0
  while count < min(len(left), len(right)) and left[-1 - count] == right[-1 - count]:
    count += 1
  return count


def dry_penalties(history: Sequence[int], vocabulary: int, base: float, allowed: int) -> list[float]:
  """What comes off each token at multiplier 1."""
  penalties = [0.0] * vocabulary
  for i in range(1, len(history)):
    length = common_end(history[:i], history)
    if length >= allowed:
      penalties[history[i]] = max(penalties[history[i]], base ** (length - allowed))
  return penalties


def lz_penalties(
  history: Sequence[int], vocabulary: int, window: int, buffer: int, *, as_fork: bool = False
) -> list[float]:
  """What comes off each token at strength 1; the SGLang fork leaves out the first `buffer` tokens of its window."""
  text, most = history[-window:], math.log2(vocabulary)
  penalties = [0.0] * vocabulary
  for v in range(vocabulary):
    places = [i for i in range(buffer if as_fork else 0, len(text)) if text[i] == v]
    matches = [(min(common_end(text[:i], text), buffer), -(len(text) - i)) for i in places]
    if matches:
      penalties[v] = most - min(math.log2(-max(matches)[1]), most)
  return penalties


def repeats(history: Sequence[int], shortest: int, longest: int, count: int) -> bool:
  """Whether the text ends in `count` times the same block."""
  for size in range(shortest, longest + 1):
    if size * count <= len(history):
      blocks = [tuple(history[len(history) - (i + 1) * size : len(history) - i * size]) for i in range(count)]
      if len(set(blocks)) == 1:
        return True
  return False
