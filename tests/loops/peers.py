"""Rules by which others call a text a loop, written anew from what their code does; each takes a text, says yes or no.

Rules on tokens see words and marks as tokens. Rules that watch a stream look after every token, or line.
Sources, read in November 2026: Zhi0467/cot-loop `labeling.py`; vllm-project/vllm `check_sequence_repetition`; the
same rule with periods 16 to 1,024 and four copies, as a patch for llama.cpp has it; google-gemini/gemini-cli
`loopDetectionService.ts`; can1357/oh-my-pi `thinking-loop.ts`; huggingface/datatrove, the filter after Gopher (J. W.
Rae et al., arXiv 2112.11446, table A1).
"""

from __future__ import annotations

import collections
import re
import zlib
from collections.abc import Sequence


def tokens(text: str) -> list[str]:
  """Words with the blank before them, marks, and Chinese characters one by one."""
  return re.findall(r" ?[A-Za-z]+|\d|[^\W\d_A-Za-z]|\s|[^\w\s]|_", text)


def cot_loop(text: str, n: int = 30, k: int = 20) -> bool:
  """Some n-gram occurs k times."""
  units = tokens(text)
  grams = collections.Counter(tuple(units[i : i + n]) for i in range(len(units) - n + 1))
  return any(count >= k for count in grams.values())


def adjacent_copies(units: Sequence[str], shortest: int, longest: int, copies: int) -> bool:
  """At some moment the tail is `copies` equal blocks of `shortest` to `longest` units."""
  for period in range(shortest, longest + 1):
    equal = 0
    for i in range(period, len(units)):
      equal = equal + 1 if units[i] == units[i - period] else 0
      if equal >= period * (copies - 1):
        return True
  return False


def vllm(text: str) -> bool:
  return adjacent_copies(tokens(text), 1, 20, 3)


def llama_cpp(text: str) -> bool:
  return adjacent_copies(tokens(text), 16, 1024, 4)


def gemini(text: str) -> bool:
  """Fifty characters ten times, 250 apart at most on average, with at most five different texts between."""
  history, in_code = "", False
  for line in text.splitlines(keepends=True):
    fences = line.count("```")
    if fences or re.search(r"^\s*(\|.*\||[|+-]{3,}|[*+-]\s|\d+\.\s|#+\s|>\s)", line):
      history = ""
    was_in_code, in_code = in_code, in_code ^ (fences % 2 == 1)
    if was_in_code or in_code:
      continue
    history = (history + line)[-5000:]
    if _ten_chunks(history):
      return True
  return False


def _ten_chunks(history: str) -> bool:
  seen = collections.defaultdict(list)
  for i in range(len(history) - 49):
    places = seen[history[i : i + 50]]
    places.append(i)
    last = places[-10:]
    between = {history[a:b] for a, b in zip(last, last[1:], strict=False)}
    if len(last) == 10 and last[-1] - last[0] <= 9 * 250 and len(between) <= 5:
      return True
  return False


def omp_exact(text: str) -> bool:
  """Looks every 128 characters: a short unit four times over 180 characters, a long one three times over 1,024."""
  return any(_exact_suffix(text[max(0, end - 4096) : end]) for end in [*range(128, len(text), 128), len(text)])


def _exact_suffix(tail: str) -> bool:
  for period in range(1, 1025):
    copies, least = (4, 180) if period <= 60 else (3, 1024)
    length = max(copies * period, least)
    suffix = tail[-length:]
    # A unit without letters is layout, such as a rule of dashes, and no loop.
    if len(suffix) == length and suffix[period:] == suffix[:-period] and re.search("[^\\W\\d_]", suffix):
      return True
  return False


def omp_near(text: str) -> bool:
  """Of the last 16 paragraphs four are alike: the trigrams of their words overlap by 0.8."""
  window: list[set[tuple[str, ...]]] = []
  for count, paragraph in enumerate(_paragraphs(text), 1):
    words = re.sub(r"[^a-z]+", " ", paragraph.lower()).split()
    trigrams = set(zip(words, words[1:], words[2:], strict=False))
    alike = sum(len(trigrams & other) >= 0.8 * len(trigrams | other) for other in window if trigrams or other)
    if count >= 8 and alike + 1 >= 4:
      return True
    window = [*window, trigrams][-16:]
  return False


def _paragraphs(text: str) -> list[str]:
  pieces = [piece[i : i + 700] for piece in re.split(r"\n\s*\n", text) for i in range(0, len(piece), 700)]
  prose = (re.sub(r"(?m)^(?: {2,}|\t|```).*$|^.*[{}\[\](;,>][ \t]*$", "", piece) for piece in pieces)
  return [piece for piece in prose if len(re.sub(r"[^a-z]+", " ", piece.lower()).strip()) >= 60]


def zlib_ratio(text: str) -> bool:
  """The text shrinks to less than a tenth."""
  data = text.encode()
  return len(data) > 200 and len(zlib.compress(data)) < 0.1 * len(data)


def gopher(text: str) -> bool:
  """Too many characters stand in repeated lines, in the most frequent n-gram, or in n-grams that came before."""
  lines, words = [line for line in text.split("\n") if line], text.split()
  if lines and 1 - len(set(lines)) / len(lines) > 0.3:
    return True
  return any(_top_share(words, n) > share for n, share in ((2, 0.2), (3, 0.18), (4, 0.16))) or any(
    _repeated_share(words, n) > 0.15 - 0.01 * (n - 5) for n in range(5, 11)
  )


def _top_share(words: list[str], n: int) -> float:
  grams = collections.Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
  gram, count = max(grams.items(), key=lambda item: item[1], default=((), 0))
  return count * sum(map(len, gram)) / max(1, sum(map(len, words))) if count > 1 else 0.0


def _repeated_share(words: list[str], n: int) -> float:
  seen, repeated, i = set(), 0, 0
  while i <= len(words) - n:
    gram = tuple(words[i : i + n])
    if gram in seen:
      repeated += sum(map(len, gram))
      i += n
    else:
      seen.add(gram)
      i += 1
  return repeated / max(1, sum(map(len, words)))


PEERS = {
  "cot-loop": cot_loop,
  "vLLM": vllm,
  "llama.cpp": llama_cpp,
  "gemini": gemini,
  "omp exact": omp_exact,
  "omp near": omp_near,
  "zlib": zlib_ratio,
  "Gopher": gopher,
}
