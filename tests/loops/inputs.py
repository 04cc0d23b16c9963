"""Inputs with known answers for the detectors of `loopjax.loops`; written before the detectors.

`ROWS` are sequences of ids. F(m) is m ids that occur nowhere else; B(p) is p distinct ids, repeated as one block.
`KINDS` are texts of the kinds that users report, and texts that no detector may flag.
"""

from __future__ import annotations

import dataclasses
import random

import numpy as np

_DIGITS = range(10)  # the ids 0 to 9 are the digits


@dataclasses.dataclass(frozen=True)
class Row:
  """Ids and the truth; `fired` at (30, 20), `cycle` is (start, end, period), `variant` is (period, slots, turns)."""

  name: str
  ids: np.ndarray
  count: int
  fired: int | None
  cycle: tuple[int, int, int] | None
  loop_class: str
  variant: tuple[int, int, int] | None = None
  onset: int | None = None


class _Fresh:
  """Gives ids that it has not given before; none of them is a digit."""

  def __init__(self) -> None:
    self.next = 10

  def __call__(self, num: int) -> list[int]:
    self.next += num
    return list(range(self.next - num, self.next))


def _row(name, make, *answers, **more) -> Row:
  return Row(name, np.array(make(_Fresh())), *answers, **more)


def _digits(number: int) -> list[int]:
  return [int(digit) for digit in str(number)]


def _alternating(fresh: _Fresh) -> list[int]:
  return fresh(50) + (fresh(5) + fresh(8)) * 30


def _slot(fresh: _Fresh) -> list[int]:
  start, left, right = fresh(50), fresh(9), fresh(10)
  return start + [i for _ in range(40) for i in left + fresh(1) + right]


def _counter(fresh: _Fresh) -> list[int]:
  start, block = fresh(50), fresh(12)
  return start + [i for turn in range(1, 121) for i in block + _digits(turn)]


def _irregular(fresh: _Fresh) -> list[int]:
  gaps = random.Random(0).sample(range(11, 91), 25)
  start, block = fresh(40), fresh(30)
  return start + [i for gap in gaps for i in block + fresh(gap)]


def _last_of_block(fresh: _Fresh) -> list[int]:
  block = fresh(29)
  return [i for _ in range(20) for i in block + fresh(1)]


def _table(fresh: _Fresh) -> list[int]:
  bar, line = fresh(2)
  return fresh(50) + [i for _ in range(60) for i in [bar, *fresh(1), bar, *fresh(1), bar, *fresh(1), bar, line]]


def _getters(fresh: _Fresh) -> list[int]:
  public, get, brackets, back, end = fresh(2), fresh(1), fresh(3), fresh(2), fresh(3)
  return fresh(50) + [
    i for _ in range(40) for i in public + fresh(1) + get + fresh(1) + brackets + back + fresh(1) + end
  ]


def _list(fresh: _Fresh) -> list[int]:
  comma = fresh(1)
  return [i for _ in range(300) for i in fresh(1) + comma]


def _irregular_fired() -> int:
  ids = _irregular(_Fresh())
  return [i for i, unit in enumerate(ids) if unit == ids[40]][19] + 30


ROWS = (
  _row("block_of_7", lambda f: f(50) + f(7) * 40, 36, 213, (50, 330, 7), "locked cycle", onset=50),
  _row("one_unit", lambda f: f(50) + f(1) * 300, 271, 99, (50, 350, 1), "run", onset=50),
  _row("two_blocks", _alternating, 28, 327, (50, 440, 13), "locked cycle", onset=50),
  _row("long_block", lambda f: f(50) + f(400) * 5, 5, None, (50, 2050, 400), "locked cycle"),
  _row("slot", _slot, 1, None, None, "variant", (20, 1, 40)),
  _row("counter", _counter, 1, None, None, "variant", (13, 1, 120)),
  _row("irregular_gaps", _irregular, 25, _irregular_fired(), None, "recurrence", onset=40),
  _row("not_the_tail", lambda f: f(50) + f(7) * 40 + f(200), 36, 213, (50, 330, 7), "locked cycle", onset=50),
  _row("19_of_31", lambda f: f(20) + f(31) * 19, 19, None, (20, 609, 31), "locked cycle"),
  _row("20_of_31", lambda f: f(20) + f(31) * 20, 20, 639, (20, 640, 31), "locked cycle", onset=20),
  _row("block_of_29_and_a_slot", _last_of_block, 1, None, None, "variant", (30, 1, 20)),
  _row("table", _table, 1, None, None, "enumeration"),
  _row("getters", _getters, 1, None, None, "enumeration"),
  _row("list", _list, 1, None, None, "enumeration"),
  _row("fresh", lambda f: f(5000), 1, None, None, "none"),
  _row("short", lambda f: f(3), 0, None, None, "none"),
  _row("empty", lambda f: [], 0, None, None, "none"),
)


def digits(row: Row) -> np.ndarray:
  """Which units of a row are digits."""
  return np.isin(row.ids, _DIGITS)


@dataclasses.dataclass(frozen=True)
class Kind:
  """A text; `loops`: a person calls it a loop; `loop_class`: what `describe` has to say of its words."""

  name: str
  text: str
  loops: bool
  loop_class: str


def _words(seed: int, num: int, vocabulary: int = 3000) -> str:
  """Words by Zipf's law, with a full stop now and then."""
  draw = np.random.default_rng(seed)
  ranks = draw.zipf(1.3, num) % vocabulary
  ends = draw.random(num) < 0.08
  return " ".join(_spell(rank) + ("." if end else "") for rank, end in zip(ranks, ends, strict=True))


def _spell(number: int) -> str:
  letters = "etaoinshrdlcumwfgypb"
  word = letters[number % 20]
  while number := number // 20:
    word += letters[number % 20]
  return word + "q"[: number % 2]


def _fresh_words(seed: int, num: int) -> list[str]:
  draw = random.Random(seed)
  return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(5, 8))) for _ in range(num)]


def _sentence(seed: int, num: int) -> str:
  return " ".join(_fresh_words(seed, num)) + ". "


def _drift() -> str:
  draw, words = random.Random(7), _fresh_words(7, 60)
  turns = []
  for turn in range(40):
    drifted = list(words)
    for place, word in zip(draw.sample(range(60), 4), _fresh_words(100 + turn, 4), strict=True):
      drifted[place] = word
    turns.append(" ".join(drifted) + ". ")
  return "".join(turns)


_SYNONYMS = ("check", "verify", "confirm", "test", "prove", "examine")


def _states() -> str:
  """Two states in turn, each said with one of six synonyms."""
  draw, first, second = random.Random(8), _sentence(8, 14)[:-2], _sentence(9, 11)[:-2]
  return "".join(f"{first} {draw.choice(_SYNONYMS)} it. {second} {draw.choice(_SYNONYMS)} now. " for _ in range(200))


def _code(num: int) -> str:
  return "".join(f"  {' '.join(_fresh_words(200 + line, 4))} = {line};\n" for line in range(num))


_INTRO = " ".join(_fresh_words(1, 200)) + "\n"
_CHINESE = "让我们再次检查这个问题的答案是否正确，然后继续思考。"
_PLOT = "The answer is boxed.\nLet me verify once more.\n"

KINDS = (
  Kind("block_of_37_words", _INTRO + _sentence(2, 37) * 25, True, "locked cycle"),
  Kind("one_word", _INTRO + "wait " * 300, True, "run"),
  Kind("exclamation_marks", _INTRO + "!" * 400, True, "run"),
  Kind("zeros", _INTRO + "= " + "0" * 400, True, "run"),
  Kind("newlines", _INTRO + "\n" * 400, True, "run"),
  Kind("period_of_800_words", _INTRO + _sentence(3, 800) * 5, True, "locked cycle"),
  Kind("period_of_3000_words", _INTRO + _sentence(4, 3000) * 3, True, "locked cycle"),
  Kind(
    "counter_every_20_words",
    _INTRO + "".join(f"{_sentence(5, 19)[:-2]} {turn}. " for turn in range(60)),
    True,
    "variant",
  ),
  Kind(
    "phrase_with_irregular_gaps",
    _INTRO
    + "".join(_sentence(6, 30) + _sentence(300 + gap, gap) for gap in random.Random(1).sample(range(11, 91), 25)),
    True,
    "recurrence",
  ),
  Kind("loop_that_ends", _INTRO + _sentence(2, 37) * 25 + " ".join(_fresh_words(10, 900)), True, "locked cycle"),
  Kind("chinese_sentence", _CHINESE * 80, True, "locked cycle"),
  Kind("tool_call", '{"name": "read_file", "arguments": {"path": "src/main.py"}}\n' * 60, True, "locked cycle"),
  Kind("code_of_92_lines", _INTRO + "```\n" + _code(92) * 32, True, "locked cycle"),
  Kind("paragraph_that_drifts", _INTRO + _drift(), True, "variant"),
  Kind("two_lines_around_an_answer", _INTRO + (_PLOT + "\\boxed{42}\n" + _PLOT) * 100, True, "locked cycle"),
  Kind("paragraph_of_800_characters", _INTRO + _sentence(11, 110) * 12, True, "locked cycle"),
  Kind("closed_thought_251_times", _INTRO + "</think>\nThe final answer is 7.\n" * 251, True, "locked cycle"),
  Kind("two_states_with_synonyms", _INTRO + _states(), True, "variant"),
  Kind(
    "digit_that_counts",
    _INTRO + "".join(f"Step number {i} of this very long plan is to go on. " for i in range(400)),
    True,
    "variant",
  ),
  Kind("whitespace_under_a_grammar", '{"answer": ' + " \n" * 500, True, "locked cycle"),
  Kind("zipf_text", _words(12, 4000), False, "none"),
  Kind("table", "".join(f"| {' | '.join(_fresh_words(400 + row, 3))} |\n" for row in range(60)), False, "enumeration"),
  Kind("list_of_numbers", ", ".join(map(str, range(1, 401))), False, "enumeration"),
  Kind("words_once", " ".join(_fresh_words(13, 2000)), False, "none"),
)
