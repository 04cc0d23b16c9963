import gzip
import importlib.util
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl.testing import absltest, parameterized

from loopjax.traces import readers
from loopjax.traces.trace import Ending, Kind, Problem, Trace

DATA = Path(__file__).parent / "data"  # what the formats' own libraries wrote; see data_make.py
DATE = "2026-01-02T03-04-05.678901"
LOOP = "Wait, let me check that once more. " * 40

# Format -> a record from the documented layout, and for each of its responses: problem, sample, model, temperature,
# reasoning, answer, ids, ending, label.
RECORDS = {
  "vllm": (
    {"request_id": "0", "prompt": "2+2?", "model": "m", "sampling_params": {"temperature": 0.6}, "problem_id": "p",
     "outputs": [
       {"index": 0, "text": "4", "token_ids": [19, 2], "logprobs": [{"19": {"logprob": -0.5}}, {"2": {"logprob": -1}}],
        "finish_reason": "stop", "stop_reason": None},
       {"index": 1, "text": "<think>2</think>4", "token_ids": (5, 5), "finish_reason": "repetition"}]},
    [("p", 0, "m", 0.6, "", "4", [19, 2], "finished", None),
     ("p", 1, "m", 0.6, "<think>2</think>", "4", [5, 5], "repetition", None)],
  ),
  "sglang": (
    [{"text": "4", "output_ids": [19], "meta_info": {"id": "a", "finish_reason": {"type": "length", "length": 1},
      "output_token_logprobs": [[-0.5, 19, None]]}, "question_id": 7},
     {"text": "5", "meta_info": {"id": "b", "finish_reason": {"type": "stop", "matched": 2},
      "output_token_logprobs": [[-0.5, 20, "5"], [-0.1, 2, None]]}, "question_id": 7}],
    [("7", None, "", None, "", "4", [19], "length", None), ("7", None, "", None, "", "5", [20, 2], "finished", None)],
  ),
  "openai_batch": (
    {"custom_id": "p/sample-3", "error": None, "response": {"status_code": 200, "body": {"model": "m", "choices": [
      {"message": {"content": None, "reasoning_content": "Wait"}, "finish_reason": "length",
       "logprobs": {"content": [{"token": "token_id:9", "logprob": -9999.0}]}}]}}},
    [("p", 3, "m", None, "Wait", "", [9], "length", None)],
  ),
  "chat": (
    {"id": "c", "problem_id": "p", "choices": [{"finish_reason": "tool_calls", "message": {
      "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}] * 2}}]},
    [("p", None, "", None, "", "f {}\nf {}\n", None, "finished", None)],
  ),
  "responses": (
    {"object": "response", "id": "r", "problem_id": "p", "status": "completed", "output": [
      {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
      {"type": "message", "content": [{"type": "output_text", "text": "4"}]}]},
    [("p", None, "", None, "Hm", "4", None, "finished", None)],
  ),
  "evalchemy": (
    {"results": {"AIME24": {"accuracy": 0.5, "examples": [
      {"id": 3, "problem_id": "p", "model_outputs": ["4", ""], "labels": [True, False]}]}}},
    [("p", 0, None, None, "", "4", None, "unknown", 1.0), ("p", 1, None, None, "", "", None, "lost", 0.0)],
  ),
  "champ": (
    {"problems": {"P": {"identifier": "P", "conversations": {"M|0-Shot": {"messages": [
      {"role": "User", "text": "2+2?", "error": None}, {"role": "Model.M", "text": "4", "error": None},
      {"role": "Imputation", "text": "x", "error": None},
      {"role": "Model.M", "text": "4 4", "error": "LENGTH_CURRENT"}]}}}}, "concepts": {"C": {"a": ["]", {"}": 1}]}}},
    [("P", None, "M", None, "", "4", None, "finished", None), ("P", None, "M", None, "", "4 4", None, "length", None)],
  ),
  "sharegpt": (
    {"problem_id": "p", "conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
    [("p", None, "", None, "", "4", None, "unknown", None)],
  ),
  "openr1": (
    {"problem_id": "p", "generations": ["<think>2", "<think>2</think>4"], "finish_reasons": ["length", "stop"],
     "is_reasoning_complete": [False, True], "correctness_math_verify": [False, True]},
    [("p", 0, "", None, "", "<think>2", None, "length", 0.0),
     ("p", 1, "", None, "<think>2</think>", "4", None, "finished", 1.0)],
  ),
  "s1k": (
    {"problem_id": "p", "deepseek_thinking_trajectory": "2", "deepseek_attempt": "4", "deepseek_grade": "Yes"},
    [("p", None, "deepseek", None, "2", "4", None, "unknown", 1.0)],
  ),
  "plain": (
    {"problem_id": "p", "sample": 4, "response": "4", "token_ids": [19], "temperature": "0.6", "correct": True,
     "finish_reason": "eos"},
    [("p", 4, "", 0.6, "", "4", [19], "finished", 1.0)],
  ),
}  # fmt: skip


def seen(trace: Trace) -> tuple:
  ids = None if trace.ids is None else trace.ids.tolist()
  about = (trace.problem, trace.sample, trace.model, trace.temperature)
  return (*about, trace.reasoning, trace.answer, ids, str(trace.ending), trace.label)


class ReadersTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, name: str, content: bytes | str) -> str:
    path = self.folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)

  def read(self, path: str, **kwargs):
    found = list(readers.read_file(path, **kwargs))
    return [one for one in found if isinstance(one, Trace)], [one for one in found if isinstance(one, Problem)]

  def expect(self, found, expected):
    expected = [(*row[:2], self.folder.name if row[2] is None else row[2], *row[3:]) for row in expected]
    self.assertEqual([seen(trace) for trace in found], expected)

  @parameterized.parameters(*RECORDS)
  def test_reads_its_documented_layout_from_lines_lists_documents_and_by_name(self, name):
    record, expected = RECORDS[name]
    line = json.dumps(record)
    for content in (line, line + "\n", "\n \n" + line + "\r\n\n", json.dumps(record, indent=2), "\ufeff" + line):
      traces, problems = self.read(self.write("a.json", content))
      self.assertEqual(problems, [])
      self.expect(traces, expected)
    self.expect(self.read(self.write("a.json", line), format=name)[0], expected)
    if name not in ("evalchemy", "champ", "sglang"):
      self.expect(self.read(self.write("a.json", json.dumps([record, record], indent=1)))[0][: len(expected)], expected)
      self.expect(self.read(self.write("a.json", json.dumps([record])))[0], expected)

  def test_formats_may_be_mixed_in_one_file(self):
    names = [name for name in RECORDS if name not in ("evalchemy", "champ")]
    path = self.write("a.jsonl", "".join(json.dumps(RECORDS[name][0]) + "\n" for name in names))
    self.expect(self.read(path)[0], [row for name in names for row in RECORDS[name][1]])

  def test_vllm_flat_logprobs_and_unlikely_tokens(self):
    stored = {"start_indices": [0, 2], "token_ids": [19, 7, 2], "logprobs": [-0.5, -2.0, -9999.0]}
    output = {"index": 0, "text": "4", "token_ids": [19, 2], "logprobs": stored}
    (trace,), _ = self.read(self.write("a.jsonl", json.dumps({"outputs": [output]})))
    np.testing.assert_allclose(trace.logprobs, [-0.5, math.nan])

  def test_what_libraries_wrote_openai(self):
    traces, problems = self.read(str(DATA / "batch.jsonl"))
    self.assertEqual(
      [(one.problem, one.sample, one.text, str(one.ending)) for one in traces],
      [("sum-0", 0, "2", "finished"), ("sum-0", 1, LOOP, "length"), ("sum-1", 1, "2", "length"),
       ("sum-2", 2, LOOP, "length")],
    )  # fmt: skip
    self.assertEqual([(one.line, one.kind) for one in problems], [(4, Kind.FAILED)])
    self.assertEqual([one.is_unclosed for one in traces], [None, None, None, True])
    np.testing.assert_allclose(traces[0].logprobs, [-0.25])
    self.assertLen(self.read(str(DATA / "chat.json"))[0], 2)

  def test_what_libraries_wrote_lm_eval(self):
    path = DATA / "lm_eval" / "org__model" / f"samples_sums_{DATE}.jsonl"
    traces, problems = self.read(str(path))
    self.assertEqual([(one.problem, one.sample, str(one.ending)) for one in traces], [
      ("sums/0", 0, "unknown"), ("sums/0", 1, "unknown"), ("sums/1", 0, "unknown"), ("sums/1", 1, "lost")])  # fmt: skip
    self.assertEqual({(one.model, one.temperature) for one in traces}, {("org__model", 0.6)})
    self.assertEqual([one.kind for one in problems], [Kind.DUPLICATE] * 4)  # the second filter's lines

  def test_what_libraries_wrote_lighteval(self):
    path = DATA / "details" / "org" / "model" / DATE / f"details_sums_{DATE}.parquet"
    traces, problems = self.read(str(path))
    self.assertEqual(problems, [])
    self.assertEqual([(one.problem, one.sample, one.model, len(one.reasoning), one.answer, len(one.ids), one.label)
                      for one in traces],
                     [("sums/0", 0, "org/model", 0, "2", 1, None), ("sums/0", 1, "org/model", 0, LOOP, 200, None),
                      ("sums/1", 0, "org/model", len(LOOP), "5", 1, 0.0)])  # fmt: skip
    traces, _ = self.read(str(DATA / "lighteval_0_6.parquet"))
    self.assertEqual([(one.answer, len(one.ids)) for one in traces], [(LOOP, 200), ("4", 1)])

  def test_lighteval_evaluates_nothing(self):
    cell = "[__import__('os').system('touch " + str(self.folder / "made") + "')]"
    path = str(self.folder / "a.parquet")
    pq.write_table(pa.table({"predictions": [cell, "[" * 5000], "cont_tokens": ["[]", "[]"]}), path)
    traces, problems = self.read(path)
    self.assertEqual((len(traces), len(problems)), (0, 2))
    self.assertFalse((self.folder / "made").exists())

  @absltest.skipUnless(importlib.util.find_spec("inspect_ai"), "needs inspect_ai")
  def test_what_libraries_wrote_inspect(self):
    traces, problems = self.read(str(DATA / "sums.eval"))
    self.assertEqual(problems, [])
    self.assertEqual([(one.problem, one.sample, len(one.reasoning), str(one.ending), one.label) for one in traces], [
      ("sums/p1", 0, 0, "finished", 1.0), ("sums/p1", 1, 0, "finished", 1.0),
      ("sums/p2", 0, len(LOOP), "length", 0.0), ("sums/p2", 1, len(LOOP), "length", 0.0),
      ("sums/p3", 0, len(LOOP), "finished", 0.0), ("sums/p3", 1, len(LOOP), "finished", 0.0)])  # fmt: skip
    self.assertEqual({(one.model, one.temperature) for one in traces}, {("mockllm/model", 0.6)})

  @parameterized.parameters("gzip", "zstd", "none")
  def test_packed_files_of_several_members(self, packing):
    lines = [json.dumps({"problem_id": str(i), "text": f"text {i}"}) + "\n" for i in range(4000)]
    halves = ["".join(lines[:1234]).encode(), "".join(lines[1234:]).encode()]
    pack = {"gzip": gzip.compress, "zstd": _zstd_frame, "none": bytes}[packing]
    traces, problems = self.read(self.write("a.jsonl.x", b"".join(map(pack, halves))))
    self.assertEqual(problems, [])
    self.assertEqual([one.problem for one in traces], [str(i) for i in range(4000)])

  def test_parquet_rows(self):
    path = str(self.folder / "a.parquet")
    rows = [{"problem_id": str(i), "generations": ["a", None], "finish_reasons": ["stop", "length"]} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    traces, problems = self.read(path)
    self.assertEqual(problems, [])
    endings = [Ending.FINISHED, Ending.LOST] * 40
    self.assertEqual([(one.line, one.ending) for one in traces], [(i // 2 + 1, endings[i]) for i in range(80)])

  def test_folders_patterns_and_files_are_each_read_once(self):
    for name in ("a.jsonl", "b/c.json", "b/note.txt"):
      (self.folder / name).parent.mkdir(exist_ok=True)
      self.write(name, '{"text": "x"}')
    found = readers.find_files([str(self.folder), f"{self.folder}/*.jsonl", f"{self.folder}/**/*.json"])
    self.assertEqual([Path(path).name for path in found], ["a.jsonl", "c.json"])
    with self.assertRaisesRegex(ValueError, "FILES='nowhere'"):
      readers.find_files(["nowhere"])

  def test_a_repeated_response_counts_once_and_other_samples_all(self):
    batch = {"custom_id": "a", "response": {"body": {"choices": [{"message": {"content": "4"}}]}}}
    failed = {"custom_id": "b", "response": None, "error": {"message": "no"}}
    lines = [batch, failed, batch, {**batch, "custom_id": "b"}, {"id": "q", "text": "x"}, {"id": "q", "text": "x"}]
    traces, problems = self.read(self.write("a.jsonl", "\n".join(map(json.dumps, lines))))
    self.assertLen(traces, 4)
    self.assertEqual([(one.line, one.kind) for one in problems], [(2, Kind.FAILED), (3, Kind.DUPLICATE)])


def _zstd_frame(content: bytes) -> bytes:
  sink = pa.BufferOutputStream()
  with pa.CompressedOutputStream(sink, "zstd") as stream:
    stream.write(content)
  return sink.getvalue().to_pybytes()


class TraceTest(parameterized.TestCase):
  @parameterized.parameters(
    (dict(answer="<think>a</think>b"), False),
    (dict(answer="<think>a"), True),
    (dict(answer="a", prompt="?<think>\n"), True),
    (dict(answer="a</think>b", prompt="?<think>\n"), False),
    (dict(answer="a</think>b<think>c"), True),
    (dict(reasoning="a"), True),
    (dict(reasoning="a", answer="b"), False),
    (dict(answer="b"), None),
    (dict(answer="", prompt="<think>"), None),
    (dict(answer="b", thought_is_complete=False), True),
  )
  def test_unclosed_thoughts(self, fields, expected):
    self.assertEqual(Trace("p", **fields).is_unclosed, expected)

  def test_lost_has_neither_text_nor_ids(self):
    self.assertEqual(Trace("p", ending=Ending.LENGTH).ending, Ending.LOST)
    self.assertEqual(Trace("p", ids=np.zeros(0, np.int64)).ending, Ending.LOST)
    self.assertEqual(Trace("p", ids=np.ones(1, np.int64), ending=Ending.LENGTH).ending, Ending.LENGTH)

  def test_a_text_is_parted_at_its_first_closing_marker_and_stays_whole(self):
    trace = Trace("p", answer="<think>a</think>b</think>c")
    self.assertEqual((trace.reasoning, trace.answer), ("<think>a</think>", "b</think>c"))
    self.assertEqual((trace.text, trace.num_opened, trace.num_closed), ("<think>a</think>b</think>c", 1, 2))


if __name__ == "__main__":
  absltest.main()
