"""Twenty more texts with known answers, written by a reviewer who had not seen the detector.

The truth comes from the definitions (shared/traces.md, section 1) and from a brute force made from them alone.
No class depends on whether blanks are units, or on whether a number is one unit or its digits.
"""

from __future__ import annotations

import random

from tests.loops.inputs import _INTRO, Kind, _fresh_words, _sentence


def _thue_morse(num: int) -> list[int]:
  """An order of two things without overlaps: nothing comes three times in a row, at any length."""
  return [place.bit_count() % 2 for place in range(num)]


def _square_free(num: int) -> list[int]:
  """An order of three things in which nothing comes twice in a row: the steps of `_thue_morse`."""
  bits = _thue_morse(num + 1)
  return [right - left + 1 for left, right in zip(bits, bits[1:], strict=False)]


def _fibonacci(order: int) -> list[int]:
  left, right = [0], [0, 1]
  for _ in range(order):
    left, right = right, right + left
  return right


_LIST = """## Plan

1. **Read** the input
   - open `data.csv` and skip the header
     - if it is missing, stop with an error
2. **Count** the rows
   * keep the rows with a name
3. **Write** the result
   - [x] to `out.json`

"""

_SCRIPTS = (
  "もう一度データをチェックしましょう。답이 맞는지 다시 확인해 보겠습니다. "
  "دَعْنَا نَتَحَقَّقْ مِنَ الجَوَابِ مَرَّةً أُخْرَى. ลองตรวจสอบคำตอบนี้อีกครั้งหนึ่ง "
)


def _heading() -> str:
  body = _sentence(503, 80)
  return "".join(f"## Attempt {turn}\n\n{body}\n\n" for turn in range(3, 8))


def _broken() -> str:
  """No blank before the loop, one stray word in its middle, cut inside a word of the last turn."""
  loop = _sentence(504, 60) * 9
  middle = loop.index(" ", len(loop) // 2)
  return "so the third term is hesit" + loop[:middle] + " hmm" + loop[middle:-25]


def _interleaved() -> str:
  """Three sentences in turn and five in turn, one of each by turns: both are in step again after 15 pairs."""
  three, five = [_sentence(510 + i, 8) for i in range(3)], [_sentence(520 + i, 6) for i in range(5)]
  return "".join(three[pair % 3] + five[pair % 5] for pair in range(65))


def _nested() -> str:
  return ((_sentence(530, 7) * 4 + _sentence(531, 9)) * 3 + _sentence(532, 6)) * 5


_QUOTES = (('"', '"', "answer"), ("\u201c", "\u201d", "Answer"), ("\u00ab", "\u00bb", "ANSWER"))


def _typography() -> str:
  left, right = _sentence(540, 32)[:-2], _sentence(541, 20)
  turns = [_QUOTES[style] for style in _square_free(24)]
  return "".join(f"{left} {start}{word}{end} {right}" for start, end, word in turns)


_STARTS, _LENGTHS = ("Wait", "Alternatively") * 3, (34, 37, 41, 44, 50, 57)


def _permuted() -> str:
  """Every round says the same six thoughts in another order; no thought comes three times in a row."""
  draw = random.Random(5)
  blocks = [f"{start}, {_sentence(550 + num, num)}" for start, num in zip(_STARTS, _LENGTHS, strict=True)]
  return "\n".join(block for _ in range(30) for block in draw.sample(blocks, 6))


def _grows() -> str:
  block, more = _sentence(560, 45), _fresh_words(561, 30)
  return "".join(f"{block}{' '.join(more[:turn])}. " for turn in range(1, 31))


def _log() -> str:
  draw, lines = random.Random(6), []
  for second in range(80):
    user, key, *more = _fresh_words(700 + second, 4)
    clock = f"2026-11-03 08:{10 + second * 7 // 60}:{second * 7 % 60:02d}"
    start = f"[{clock}] {draw.choice(('INFO', 'DEBUG', 'WARN'))} cache: {user} put {key} in the tier of"
    lines.append(f"{start} {' '.join(more)} after {draw.randint(2, 900)} ms\n")
  return "".join(lines)


def _align() -> str:
  """Each step starts from the fraction of the step before, and says another reason."""
  draw, lines, top, bottom = random.Random(7), [], 3, 2
  for step in range(40):
    value = f"x_{{{step + 1}}} &= \\frac{{{top}}}{{{bottom}}}"
    top, bottom = draw.sample(range(100, 90000), 2)
    reason = " ".join(_fresh_words(800 + step, 6))
    lines.append(f"{value} + {draw.randint(2, 900)} = {top} \\text{{by {reason}}} \\\\\n")
  return "\\begin{align}\n" + "".join(lines) + "\\end{align}\n"


def _objects() -> str:
  draw, rows = random.Random(8), []
  for num in range(50):
    name, city, *note = _fresh_words(590 + num, 12)
    who = f'"id": {num + 1}, "name": "{name} {city}", "age": {draw.randint(20, 80)}'
    rows.append(f'{{{who}, "note": "{" ".join(note)}"}}')
  return "[" + ",\n ".join(rows) + "]\n"


def _pi(num: int) -> str:
  """The first digits of pi, by Machin's formula."""

  def arctan(inverse: int) -> int:
    total, i, power = 0, 0, 10 ** (num + 10) // inverse
    while power:
      total += (-1) ** i * (power // (2 * i + 1))
      i, power = i + 1, power // inverse**2
    return total

  return "3." + str((16 * arctan(5) - 4 * arctan(239)) // 10**10)[1:]


def _song() -> str:
  refrain = _sentence(600, 12) + _sentence(601, 12)
  verses = [_sentence(610 + length, length) for length in (52, 71, 44, 63)]
  return "".join(f"{verse}\n\n{refrain}\n\n" for verse in verses)


def _stock_phrase() -> str:
  draw, vocabulary = random.Random(10), _fresh_words(620, 400)
  phrase = "as we have already seen in the previous section of this report"
  return " ".join(f"{' '.join(draw.choices(vocabulary, k=draw.randint(80, 240)))} {phrase}" for _ in range(25))


def _de_bruijn() -> str:
  """Of 16 words, no three in a row come twice: a round trip over all pairs that uses each step once."""
  draw = random.Random(11)
  steps = {(left, right): draw.sample(range(16), 16) for left in range(16) for right in range(16)}
  path, trip = [(0, 0)], []
  while path:
    if steps[path[-1]]:
      path.append((path[-1][1], steps[path[-1]].pop()))
    else:
      trip.append(path.pop()[1])
  words = _fresh_words(630, 16)
  return " ".join(words[i] for i in reversed(trip))


_TWO = (_sentence(640, 9), _sentence(641, 11))
_DNA = "".join(random.Random(9).choices("ACGT", k=3000))

REVIEWED = (
  Kind("markdown_nested_lists", _INTRO + _LIST * 8, True, "locked cycle"),
  # Five turns of 81 words and one number: the rule says variant, as 81 of 82 stay. Five is below k = 20.
  Kind("heading_that_counts_5_times", _INTRO + _heading(), True, "variant"),
  Kind("japanese_korean_arabic_thai", _INTRO + _SCRIPTS * 20, True, "locked cycle"),
  # The line is at 30 units, so 30 of them are a run.
  Kind("emoji_30_times", _INTRO + "🙏" * 30, True, "run"),
  # Each side of the stray word is a cycle of its own with more than three turns.
  Kind("mid_word_stray_word_and_cut", _INTRO + _broken(), True, "locked cycle"),
  Kind("two_interleaved_loops", _INTRO + _interleaved(), True, "locked cycle"),
  Kind("loop_of_loops", _INTRO + _nested(), True, "locked cycle"),
  # Quotes and case change, the rest stays; no style comes twice in a row. Recurrence holds too, variant comes first.
  Kind("quotes_and_case_change", _INTRO + _typography(), True, "variant"),
  # The turns have no common length, so no slots line up: recurrence alone.
  Kind("six_thoughts_in_any_order", _INTRO + _permuted(), True, "recurrence"),
  # 45 words stay and 1 to 30 follow: no fixed period, and about 0.75 stays, which is too little for a variant.
  Kind("period_grows_by_a_word", _INTRO + _grows(), True, "recurrence"),
  # Two sentences without overlaps: never three repetitions of anything, but few different windows.
  Kind("two_sentences_thue_morse", _INTRO + "".join(_TWO[i] for i in _thue_morse(400)), True, "recurrence"),
  # Not periodic as a whole, yet the Fibonacci word has stretches with up to 3.6 repetitions: cycles by definition.
  Kind("two_sentences_fibonacci", _INTRO + "".join(_TWO[i] for i in _fibonacci(10)), True, "locked cycle"),
  # Four names, a level, a clock and a time change on each line: a list of events.
  Kind("log_lines", _log(), False, "enumeration"),
  Kind("latex_steps_that_progress", _INTRO + _align(), False, "enumeration"),
  Kind("json_objects", _objects(), False, "enumeration"),
  # Digits, then one very long word.
  Kind("pi_and_dna", f"pi = {_pi(2000)}\ndna = {_DNA}\n", False, "none"),
  # 24 words four times, verses of unlike lengths in between: the refrain is less than 0.4 of a turn.
  Kind("song_with_a_refrain", _song(), False, "none"),
  # The phrase has 12 words, so no 30 units come back.
  Kind("stock_phrase_25_times", _stock_phrase(), False, "none"),
  Kind("de_bruijn_of_16_words", _de_bruijn(), False, "none"),
  # One short of 30 units, and the text goes on.
  Kind("question_marks_29_times", _INTRO + "what" + "?" * 29 + " " + _sentence(650, 60), False, "none"),
)
