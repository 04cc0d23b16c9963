"""Records out of one large JSON document, one at a time: the values at a path, without the rest.

A path is a tuple of keys, `*` standing for every key and every place in a list: ("results", "*", "examples", "*"). The
document is walked as bytes; only the values at the path are kept and parsed, so memory holds one record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)
_OPEN, _CLOSE = (b"{", b"["), (b"}", b"]")
DEEPEST = 200  # of what lies above and beside the path


class _Walk:
  """Where a walk through a document stands."""

  def __init__(self, path: tuple[str, ...]):
    self.path = path
    self.place: list[str | int | None] = []  # of the open containers: the key, or the index
    self.waits_for_key: list[bool] = []

  def at_path(self) -> bool:
    """Whether the value that begins now lies at the path."""
    return len(self.place) == len(self.path) and all(
      wanted in ("*", here) for wanted, here in zip(self.path, self.place, strict=True)
    )

  def step(self, token: bytes) -> None:
    """Goes past a token.

    Raises:
      ValueError: a bracket that was never opened, or too many that are open.
    """
    if token in _OPEN:
      if len(self.place) == DEEPEST:
        raise ValueError(f"is nested deeper than {DEEPEST}")
      self.place.append(None if token == b"{" else 0)
      self.waits_for_key.append(token == b"{")
    elif token in _CLOSE:
      if not self.place:
        raise ValueError("is not JSON: it closes a bracket that it never opened")
      self.place.pop()
      self.waits_for_key.pop()
    elif self.place:
      self._step_inside(token)

  def _step_inside(self, token: bytes) -> None:
    if token == b"," and isinstance(self.place[-1], int):
      self.place[-1] += 1
    elif token == b",":
      self.waits_for_key[-1] = True
    elif self.waits_for_key[-1] and token.startswith(b'"'):
      self.place[-1] = json.loads(token)
      self.waits_for_key[-1] = False


def records(content: Iterator[bytes], path: tuple[str, ...], limit: int) -> Iterator[bytes]:
  """The values at the path that are objects or lists, as JSON, in order.

  Args:
    content: the document in pieces.
    path: keys, with `*` for any.
    limit: the most bytes of a value, and of a string elsewhere.

  Raises:
    ValueError: it is not JSON as far as the walk sees it, ends too soon, or has a value longer than the limit.
  """
  walk, depth = _Walk(path), 0  # depth of brackets inside of the value that is kept; 0 outside
  kept = bytearray()
  for token in _tokens(content, limit):
    if depth == 0 and token in _OPEN and walk.at_path():
      kept, depth = bytearray(token), 1
    elif depth:
      kept += token
      depth += (token in _OPEN) - (token in _CLOSE)
      if len(kept) > limit:
        raise ValueError(f"has a record longer than {limit / 2**20:g} MiB")
      if depth == 0:
        yield bytes(kept)
    else:
      walk.step(token)
  if walk.place or depth:
    raise ValueError("is not JSON: it ends too soon")


def _tokens(content: Iterator[bytes], limit: int) -> Iterator[bytes]:
  """The tokens of a document; strings and numbers that a piece's end cuts are put together."""
  rest = b""
  for piece in content:
    buffer, end = rest + piece, 0
    for match in _TOKEN.finditer(buffer):
      if match.end() == len(buffer) or buffer[end : match.start()].strip():
        break  # it may go on in the next piece; or a string is open
      end = match.end()
      yield match[0]
    rest = buffer[end:]
    if len(rest) > limit:
      raise ValueError(f"has a string longer than {limit / 2**20:g} MiB")
  end = 0
  for match in _TOKEN.finditer(rest):
    if rest[end : match.start()].strip():
      break
    end = match.end()
    yield match[0]
  if rest[end:].strip():
    raise ValueError("is not JSON: it ends inside of a string")
