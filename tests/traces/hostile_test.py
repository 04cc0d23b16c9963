import gzip
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from loopjax.traces import readers
from loopjax.traces.trace import Kind, Problem, Trace

MEBIBYTE = 2**20
GOOD = b'{"problem_id": "p", "text": "fine"}'


_KEYS = [
  *("text", "response", "outputs", "choices", "message", "content", "custom_id", "body", "error", "resps", "doc_id"),
  *("doc", "model_response", "meta_info", "token_ids", "logprobs", "output", "status", "generations", "conversations"),
  *("from", "model_outputs", "identifier", "predictions", "cont_tokens", "deepseek_thinking_trajectory", "type"),
  *("finish_reason", "tokens", "role", "value", "arguments", "reasoning", "metric", "index", "messages"),
]
_SCRIPT = """
import re, sys
from loopjax.traces import main
status = main.main()
# getrusage would also tell of the process that started this one, as it was before the new program was loaded.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(int(peak[1]) // 1024, file=sys.stderr)
sys.exit(status)
"""


class HostileTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def read(self, content: bytes, name: str = "a.jsonl", **kwargs):
    path = self.folder / name
    path.write_bytes(content)
    found = list(readers.read_file(str(path), **kwargs))
    return [one for one in found if isinstance(one, Trace)], [one for one in found if isinstance(one, Problem)]

  def scan(self, *arguments: str):
    """The command in a process of its own: its status, what it printed, and the most memory it held, in MiB."""
    command = [sys.executable, "-c", _SCRIPT, "scan", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    *errors, memory = done.stderr.splitlines()
    self.assertNotIn("Traceback", done.stderr)
    return done.returncode, done.stdout, errors, int(memory)

  @parameterized.parameters(
    (b'{"text": "\xff"}', "is not UTF-8: byte 0xff at 10"),
    (b'{"text": "cut', "is not JSON: Unterminated string starting at at character 9"),
    # Python reads nesting as deep as this from 3.12 on.
    (
      b'{"text": ' + b"[" * 1000 + b"]" * 1000 + b"}",
      "is nested too deeply" if sys.version_info < (3, 12) else "is a list, not a string",
    ),
    (b'{"text": ' + b"[" * 100_000, "is nested too deeply"),
    (b'{"token_ids": [' + b"9" * 5000 + b"]}", "is not JSON: Exceeds the limit"),
    (b'{"token_ids": [1e400]}', "token_ids is not a list of token ids"),
    (b'{"token_ids": [9223372036854775808]}', "token_ids is not a list of token ids"),
    (b'{"token_ids": [true]}', "token_ids is not a list of token ids"),
    (b'{"text": 5}', "response is a number, not a string"),
    (b'{"something": 5}', "has no format that a reader knows; its keys: something"),
    (b"5", "is no object but 5"),
    (b"null", "is no object but null"),
    (b"[]", "is no object but []"),
    (b"\x00\x01\x02", "is not JSON"),
    (b'{"outputs": [{"text": "a"}, 5]}', "output is a number, not an object"),
    (b'{"custom_id": 1, "response": {"body": []}}', "response.body is a list, not an object"),
  )
  def test_a_line_that_cannot_be_read_is_named_and_the_others_are_read(self, line, why):
    traces, problems = self.read(b"\n".join([GOOD, line, b"", GOOD, line]))
    self.assertEqual([trace.line for trace in traces], [1, 4])
    self.assertEqual([one.line for one in problems], [2, 5])
    self.assertIn(why, str(problems[0]))
    self.assertEqual({one.kind for one in problems}, {Kind.UNREADABLE})

  def test_numbers_that_are_none(self):
    about = b'"temperature": NaN, "score": Infinity, "logprobs": [NaN, -Infinity, -1]'
    (trace,), problems = self.read(b'{"text": "a", "token_ids": [1, 2, 3], ' + about + b"}")
    self.assertEqual(problems, [])
    self.assertEqual((trace.temperature, trace.label), (None, None))
    np.testing.assert_allclose(trace.logprobs, [np.nan, np.nan, -1])

  @parameterized.parameters("\u2028", "\u2029", "\u0085", "\\ud800", "\\u0000", "\\n")
  def test_no_character_but_the_line_feed_ends_a_line(self, character):
    line = f'{{"text": "a{character}b"}}'
    traces, problems = self.read(b"\n".join([line.encode()] * 3))
    self.assertEqual([trace.text for trace in traces], [json.loads(line)["text"]] * 3)
    self.assertEmpty(problems)

  @parameterized.parameters(
    *(
      {"record": record}
      for record in (
        {"text": None}, {"text": None, "token_ids": None, "logprobs": None, "model": None, "temperature": None},
        {"choices": [{"message": {"content": None, "tool_calls": None}, "finish_reason": None, "logprobs": None}]},
        {"outputs": [{"text": None, "token_ids": None, "logprobs": None, "finish_reason": None, "index": None}]},
        {"doc_id": None, "resps": [[None]], "arguments": None, "metrics": None},
        {"text": None, "meta_info": {"finish_reason": None, "output_token_logprobs": None}},
        {"conversations": [{"from": "gpt", "value": None}]}, {"generations": [None], "finish_reasons": None},
        {"output": [], "status": None}, {"deepseek_thinking_trajectory": "", "deepseek_attempt": None},
        {"custom_id": None, "error": None, "response": {"status_code": 200, "body": {"choices": [{"message": {}}]}}},
        {"doc": None, "metric": None, "model_response": {"text": [None], "output_tokens": None, "reasonings": None}},
      )
    )
  )  # fmt: skip
  def test_nulls_everywhere_are_a_lost_response(self, record):
    traces, problems = self.read(json.dumps(record).encode())
    self.assertEqual((problems, [str(one.ending) for one in traces]), ([], ["lost"]))

  def test_empty_file(self):
    self.assertEqual([one.why for one in self.read(b"")[1]], ["is empty"])

  @parameterized.parameters(
    b"\x1f\x8b\x08broken", gzip.compress(GOOD * 100)[:-9], b"\x28\xb5\x2f\xfdbroken", b"PAR1broken"
  )
  def test_broken_packings_are_named(self, content):
    problems = self.read(content)[1]
    self.assertNotEmpty(problems)
    self.assertNotIn("\n", str(problems[-1]))

  @settings(max_examples=300, deadline=None)
  @given(st.binary(max_size=300))
  def test_any_bytes(self, content):
    for begin in (
      b"",
      b"{",
      b'{"results": ',
      b'{"problems": {"a": ',
      b"[",
      b"\x1f\x8b\x08\x00",
      b"PAR1",
      b"PK\x03\x04",
    ):
      self.read(begin + content)

  @settings(max_examples=300, deadline=None)
  @given(st.data())
  def test_records_with_any_values(self, data):
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["gpt", "text", "a"]) | st.text()
    inside = lambda children: (
      st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), children, max_size=5)
    )
    record = data.draw(st.dictionaries(st.sampled_from(_KEYS), st.recursive(leaves, inside, max_leaves=8), max_size=6))
    traces, problems = self.read(b"\n".join([GOOD, json.dumps(record).encode(), GOOD]))
    self.assertEqual([trace.line for trace in traces if trace.line != 2], [1, 3])
    self.assertLessEqual(len(problems), max(len(traces), 1) + 3)

  def test_a_line_beyond_the_limit_is_named_and_the_next_is_read(self):
    long = b'{"text": "' + b"x" * (3 * MEBIBYTE) + b'"}'
    traces, problems = self.read(b"\n".join([GOOD, long, GOOD]), limit=2 * MEBIBYTE)
    self.assertEqual([trace.line for trace in traces], [1, 3])
    self.assertEqual([(one.line, one.why) for one in problems], [(2, "is longer than 2 MiB; see --max_mebibytes")])

  def test_a_line_of_200_megabytes_in_bounded_memory(self):
    path = self.folder / "a.jsonl"
    with open(path, "wb") as file:
      file.write(GOOD + b'\n{"text": "')
      for _ in range(200):
        file.write(b"x" * 10**6)
      file.write(b'"}\n' + GOOD)
    status, out, errors, memory = self.scan(str(path))
    self.assertEqual(status, 0)
    self.assertIn("a.jsonl:2: is longer than 64 MiB", errors[0])
    self.assertRegex(out, r"unknown +\? +words +2 ")
    self.assertLess(memory, 350)

  def test_a_response_too_long_to_be_measured_is_named(self):
    path = self.folder / "a.jsonl"
    longest = json.dumps({"text": "word " * (2**22 // 5)}).encode()
    path.write_bytes(b"\n".join([GOOD, json.dumps({"text": "x" * (2**22 + 1)}).encode(), longest]))
    status, out, errors, memory = self.scan(str(path))
    self.assertEqual(status, 0)
    self.assertIn("a.jsonl:2: has a response of 4194305 characters: at most 4194304 are measured", errors[0])
    self.assertRegex(out, r"unknown +\? +words +2 ")
    self.assertLess(memory, 600)

  @parameterized.parameters((b"\0", "line 2 is longer than 1024 MiB"), (b"\n", None))
  def test_gzip_bomb_in_bounded_memory(self, byte, why):
    member = gzip.compress(byte * (64 * MEBIBYTE))
    path = self.folder / "a.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD + b"\n") + member * 17)
    status, out, errors, memory = self.scan(str(path))
    self.assertEqual(status, 0)
    self.assertRegex(out, r"unknown +\? +words +1 ")
    self.assertIn(why or "", "\n".join(errors))
    self.assertLess(memory, 350)

  @absltest.skipUnless(importlib.util.find_spec("inspect_ai"), "needs inspect_ai")
  @parameterized.parameters(False, True)
  def test_zip_bomb_in_a_log(self, lies):
    path = self.folder / "a.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
      archive.writestr("header.json", b"{" + b" " * (65 * MEBIBYTE) + b"}")
    if lies:  # the sizes in the directory and in the member
      content = path.read_bytes().replace((65 * MEBIBYTE + 2).to_bytes(4, "little"), (9).to_bytes(4, "little"))
      path.write_bytes(content)
    problems = list(readers.read_file(str(path)))
    self.assertEqual([one.why for one in problems], ["member 'header.json' is larger than 64 MiB once unpacked"])

  def test_strict_stops_at_the_first_and_the_message_is_one_line(self):
    path = self.folder / "a.jsonl"
    path.write_bytes(b"\n".join([GOOD, b"x", b"y"]))
    status, out, errors, _ = self.scan(str(path), "--strict")
    self.assertEqual((status, out), (2, ""))
    self.assertEqual(errors, [f"error: {path}:2: is not JSON: Expecting value at character 0"])


if __name__ == "__main__":
  absltest.main()
