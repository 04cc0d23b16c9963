"""Whether a response is right, for problems whose answer is a whole number, as in AIME."""

from __future__ import annotations

import re

from loopjax.traces.trace import CLOSING

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")
_WHOLE = re.compile(r"-?\d{1,300}")


def is_right(content: str, reference: str) -> bool | None:
  r"""Whether the last `\boxed{...}` of the answer is the reference.

  Args:
    content: the response; what stands before its last `</think>` is no answer.
    reference: the right answer.

  Returns:
    None where the reference is no whole number: nothing is guessed then.
  """
  right = _whole(reference)
  if right is None:
    return None
  boxed = _BOXED.findall(content.rpartition(CLOSING)[2])
  return bool(boxed) and _whole(boxed[-1]) == right


def _whole(text: str) -> int | None:
  text = re.sub(r"\\[,!;:]|[\s,$]", "", text)
  return int(text) if _WHOLE.fullmatch(text) else None
