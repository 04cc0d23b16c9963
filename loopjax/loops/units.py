"""Text to units: characters, words by Unicode's boundaries, or the tokens of a `tokenizers` file.

Units carry where they start in the text, so that a span of units can be shown, and which of them are digits.

Shapes: N units.

Source: Unicode Standard Annex 29, default word boundaries, as the library `regex` has them. Each Chinese character is a
word of its own there.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import numpy as np

LONGEST_WORD = 32  # characters; what is longer (a row of zeros) is no word, and taken by its characters


class Units(NamedTuple):
  """A text as units.

  Attributes:
    ids: [N], int32; equal units have equal ids, across texts too for characters and tokens, not for words.
    starts: [N + 1], int64: unit i is the text from starts[i] to starts[i + 1], in characters.
    digits: [N], bool: whether the unit is of digits alone.
  """

  ids: np.ndarray
  starts: np.ndarray
  digits: np.ndarray


def characters(text: str) -> Units:
  """A text by its characters (code points); an id is the code point."""
  ids = _code_points(text).astype(np.int32)
  return Units(ids, np.arange(ids.size + 1), _is_digit(ids))


def words(text: str) -> Units:
  """A text by its words and marks.

  One blank after a word is no unit: it belongs to that word. All other white space is taken character by
  character, so is what looks like a word of more than `LONGEST_WORD` characters.
  """
  starts = _word_starts(text)
  ends = np.append(starts, len(text))[1:]
  names: dict[str, int] = {}
  ids = np.array([names.setdefault(_word(text, a, b), len(names)) for a, b in zip(starts, ends, strict=True)], np.int32)
  known = np.array([name.isdecimal() for name in names], bool)
  return Units(ids, np.append(starts, len(text)), known[ids] if ids.size else np.zeros(0, bool))


def tokens(text: str, tokenizer_file: str | os.PathLike[str]) -> Units:
  """A text by the tokens of a file that the library `tokenizers` reads, such as `tokenizer.json`.

  No special token is added. A token's span reaches to where the next starts.

  Raises:
    ImportError: `tokenizers` is not installed.
    ValueError: it does not read the file.
  """
  encoding = _tokenizer(os.fspath(tokenizer_file)).encode(text, add_special_tokens=False)
  ids = np.array(encoding.ids, np.int32)
  starts = np.array([*(start for start, _ in encoding.offsets), len(text)], np.int64)
  digits = np.array([text[a:b].strip().isdecimal() for a, b in encoding.offsets], bool)
  return Units(ids, starts, digits)


@functools.lru_cache(maxsize=4)
def _tokenizer(path: str):  # type: ignore[no-untyped-def]  # tokenizers is optional
  import tokenizers

  try:
    return tokenizers.Tokenizer.from_file(path)
  except Exception as error:  # the library raises nothing more special
    raise ValueError(
      f"tokenizer_file={path!r} is not allowed: must be a file that tokenizers reads ({error})"
    ) from error


def _code_points(text: str) -> np.ndarray:
  return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _is_digit(code_points: np.ndarray) -> np.ndarray:
  distinct, index = np.unique(code_points, return_inverse=True)
  return np.array([chr(point).isdecimal() for point in distinct], bool)[index]


def _word(text: str, start: int, end: int) -> str:
  """The unit without the one blank after it; a blank alone stays."""
  return text[start : end - 1] if end - start > 1 and text[end - 1] == " " else text[start:end]


def _word_starts(text: str) -> np.ndarray:
  import regex

  if not text:
    return np.zeros(0, np.int64)
  pieces = sorted({0, *(match.start() for match in regex.finditer(r"(?V1w)\b(?=.)", text, flags=regex.DOTALL))})
  starts: list[int] = []
  for start, end in zip(pieces, [*pieces[1:], len(text)], strict=True):
    blank = text[start].isspace()
    if (blank and end - start > 1) or end - start > LONGEST_WORD:
      starts += range(start, end)
    elif text[start:end] != " " or start == 0 or text[start - 1].isspace() or text[end : end + 1].isspace():
      starts.append(start)
  return np.array(starts, np.int64)
