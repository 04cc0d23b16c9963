import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import hypothesis
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.loops import units

# The model of a tokenizer that knows five words and splits at blanks.
_TOKENIZER = {
  "version": "1.0",
  "added_tokens": [],
  "pre_tokenizer": {"type": "Whitespace"},
  "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "wait": 1, ",": 2, "7": 3, "and": 4}, "unk_token": "[UNK]"},
}


def pieces(text, found):
  return [text[a:b] for a, b in zip(found.starts, found.starts[1:], strict=False)]


class UnitsTest(parameterized.TestCase):
  @parameterized.parameters(
    ("Wait, wait.", ["Wait", ", ", "wait", "."]),
    ("it's 3.14 or 1,000", ["it's ", "3.14 ", "or ", "1,000"]),
    ("你好世界，再见。", list("你好世界，再见。")),
    ("a  b\n\nc", ["a", " ", " ", "b", "\n", "\n", "c"]),
    ("\r\n\r\n", ["\r", "\n", "\r", "\n"]),
    ("0" * 40, ["0"] * 40),
    ("e\u0301 x", ["e\u0301 ", "x"]),
    ("", []),
  )
  def test_words(self, text, expected):
    self.assertEqual(pieces(text, units.words(text)), expected)

  def test_equal_words_have_equal_ids_and_numbers_are_digits(self):
    found = units.words("step 1 step 22 step")
    self.assertEqual(found.ids.tolist(), [0, 1, 0, 2, 0])
    self.assertEqual(found.digits.tolist(), [False, True, False, True, False])

  @hypothesis.given(text=st.text())
  def test_units_make_up_the_text(self, text):
    for found in (units.words(text), units.characters(text)):
      self.assertEqual("".join(pieces(text, found)), text)
      self.assertLen(found.starts, found.ids.size + 1)
      self.assertEqual(found.digits.shape, found.ids.shape)

  def test_characters(self):
    found = units.characters("a7\U0001f600\ud800")
    self.assertEqual(found.ids.tolist(), [97, 55, 0x1F600, 0xD800])
    self.assertEqual(found.digits.tolist(), [False, True, False, False])

  def test_tokens(self):
    try:
      import tokenizers  # noqa: F401
    except ImportError:
      self.skipTest("tokenizers is an extra")
    path = Path(self.enterContext(tempfile.TemporaryDirectory())) / "tokenizer.json"
    path.write_text(json.dumps(_TOKENIZER))
    text = "wait, wait and 7"
    found = units.tokens(text, path)
    self.assertEqual(found.ids.tolist(), [1, 2, 1, 4, 3])
    self.assertEqual(pieces(text, found), ["wait", ", ", "wait ", "and ", "7"])
    self.assertEqual(found.digits.tolist(), [False] * 4 + [True])
    path.write_text("{}")
    units._tokenizer.cache_clear()
    with self.assertRaisesRegex(ValueError, "tokenizer_file"):
      units.tokens(text, path)

  def test_says_that_tokenizers_is_missing(self):
    units._tokenizer.cache_clear()
    with mock.patch.dict(sys.modules, {"tokenizers": None}), self.assertRaises(ImportError):
      units.tokens("a", "tokenizer.json")

  def test_types(self):
    for found in (units.words("a 1"), units.characters("a 1"), units.words("")):
      self.assertEqual([found.ids.dtype, found.digits.dtype], [np.int32, bool])


if __name__ == "__main__":
  absltest.main()
