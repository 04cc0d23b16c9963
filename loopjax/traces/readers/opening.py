"""Files as streams of bytes, unpacked on the way (gzip of any number of members, zstd), and lines of bounded length.

Nothing here holds more than a line and two pieces of a file. Lines end at the byte `\\n` alone: U+2028 and U+0085, at
which `str.splitlines` breaks, stand inside JSON strings.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

PIECE = 2**20  # bytes read at once
HOPELESS = 16  # a line so many times longer than the limit ends the reading of its file
_GZIP, _ZSTANDARD, PARQUET, ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"PK\x03\x04"


class TooLong(ValueError):
  """Something in a file is longer than the limit, and the rest of the file is not read."""


class Line(NamedTuple):
  """A line without its end; `content` is None where it is longer than the limit."""

  number: int
  content: bytes | None


def magic(path: str | os.PathLike[str]) -> bytes:
  """The first four bytes of a file."""
  with open(path, "rb") as file:
    return file.read(4)


def pieces(path: str | os.PathLike[str], progress: Callable[[int], Any] = lambda position: None) -> Iterator[bytes]:
  """The content of a file, unpacked, in pieces of at most `PIECE` bytes.

  Args:
    path: the file.
    progress: gets the position in the file as it lies on the disk, in bytes, after each piece.

  Raises:
    ValueError: the packed file is broken.
    OSError: the system refuses to read it.
  """
  begin = magic(path)
  with open(path, "rb") as file:
    try:
      with _unpacked(file, begin) as stream:
        while piece := stream.read(PIECE):
          yield bytes(piece)
          progress(file.tell())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
      raise ValueError(f"broken gzip: {error}") from None


def _unpacked(file: BinaryIO, begin: bytes) -> Any:
  if begin.startswith(_GZIP):
    return gzip.open(file)
  if begin == _ZSTANDARD:
    return _Zstandard(file)
  return file


class _Zstandard(io.RawIOBase):
  """The content of a zstd file of any number of frames."""

  def __init__(self, file: BinaryIO):
    import pyarrow as pa  # a fifth of a second

    self._stream, self._broken = (
      pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"),
      (OSError, pa.ArrowException),
    )

  def read(self, size: int = -1) -> bytes:
    try:
      return self._stream.read(size)
    except self._broken as error:
      raise ValueError(f"broken zstd: {error}") from None


def lines(content: Iterator[bytes], limit: int) -> Iterator[Line]:
  """The lines of a stream that are not blank, numbered from 1.

  Args:
    content: pieces of bytes.
    limit: the most bytes of a line; what is longer is skipped, and its content is None.

  Raises:
    TooLong: a line is `HOPELESS` times longer than the limit.
  """
  number, length = 1, 0  # of the line that is being read
  kept: list[bytes] = []
  for piece in content:
    if not length and not piece.strip():  # a bomb of blank lines
      number += piece.count(b"\n")
      continue
    *whole, rest = piece.split(b"\n")
    for part in whole:
      yield from _line(number, [*kept, part], length + len(part), limit)
      number, length, kept = number + 1, 0, []
    length += len(rest)
    kept = [*kept, rest] if length <= limit else []
    if length > HOPELESS * limit:
      raise TooLong(f"line {number} is longer than {_mebibytes(HOPELESS * limit)}: the rest of the file is not read")
  yield from _line(number, kept, length, limit)


def _line(number: int, parts: list[bytes], length: int, limit: int) -> Iterator[Line]:
  if length > limit:
    yield Line(number, None)
  elif content := b"".join(parts).strip():
    yield Line(number, content)


def _mebibytes(size: int) -> str:
  return f"{size / 2**20:g} MiB"
