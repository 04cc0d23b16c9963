"""Watches a response while it is streamed, and says when a locked cycle has begun.

The units are token ids where the server streams them (vLLM does with `return_token_ids`), else words, as in a scan; but
of what a scan takes by its characters, words of more than 32, the end may be taken as a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from loopjax.loops import units
from loopjax.loops.cycles import MIN_LENGTH, Cycle
from loopjax.loops.online import CycleWatch

_PIECE = 64  # characters that are parted into words at once, at least


class LoopWatch:
  """Takes in pieces of a response.

  Args:
    min_length: units that a cycle has at least.
  """

  def __init__(self, min_length: int = MIN_LENGTH):
    self._watch = CycleWatch(min_length=min_length)
    self._names: dict[str, int] = {}
    self._pending = ""  # text whose words may still change
    self.units = ""  # "ids" or "words", known from the first piece with text on

  def add(self, text: str, ids: Sequence[int] = ()) -> Cycle | None:
    """Takes in a piece: its text, and its token ids where the server sends them; gives the cycle at the end, if any."""
    if not self.units and (text or ids):
      self.units = "ids" if ids else "words"
    if self.units == "ids":
      return self._watch.extend(list(ids)) if ids else self._watch.tail
    self._pending += text
    return self._watch.extend(self._words()) if len(self._pending) >= _PIECE else self._watch.tail

  def _words(self) -> list[int]:
    """Ids of the words that no further text can change: all but the last two."""
    starts = units.words(self._pending).starts[:-1]
    ends = starts[1:-1]
    found = [self._pending[a:b].removesuffix(" ") or " " for a, b in zip(starts[: len(ends)], ends, strict=True)]
    if found:
      self._pending = self._pending[ends[-1] :]
    return [self._names.setdefault(word, len(self._names)) for word in found]
