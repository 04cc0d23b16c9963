"""Problems from files, and the paper's set-up."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pandas as pd
from absl.testing import absltest, parameterized

from loopjax.traces import generate_flags, plan, questions
from loopjax.traces.main import _parser
from loopjax.traces.questions import Question

ROOT = Path(__file__).parents[2]
EXPECTED = [Question("a", "1 + 1?", "2"), Question("b", "1 + 2?", "3")]


class QuestionsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, name: str, content: str | bytes) -> str:
    path = self.folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)

  def lines(self, *records: dict) -> str:
    return self.write("q.jsonl", "".join(json.dumps(one) + "\n" for one in records))

  @parameterized.parameters(
    ("problem", "id", "answer"), ("Problem", "ID", "Answer"), ("question", "problem_idx", "answer"),
    ("prompt", "unique_id", "expected_answer"),
  )  # fmt: skip
  def test_names_of_fields(self, problem, name, answer):
    path = self.lines(*({problem: one.text, name: one.name, answer: int(one.answer)} for one in EXPECTED))
    self.assertEqual(questions.read([path]), EXPECTED)

  def test_json_gzip_and_parquet(self):
    records = [{"id": one.name, "problem": one.text, "answer": one.answer} for one in EXPECTED]
    pd.DataFrame(records).to_parquet(self.folder / "q.parquet")
    pretty = json.dumps(records, indent=2)
    for path in (self.write("q.json", pretty), self.write("q.json.gz", gzip.compress(pretty.encode()))):
      self.assertEqual(questions.read([path]), EXPECTED)
    self.assertEqual(questions.read([str(self.folder / "q.parquet")]), EXPECTED)

  def test_without_names_and_answers(self):
    self.assertEqual(questions.read([self.lines({"problem": "x"}, {"problem": "y"})]), [("1", "x", ""), ("2", "y", "")])

  def test_the_prompts_of_traces(self):
    record = {"doc_id": 3, "doc": {}, "target": "", "resps": [["a", "b"]], "filtered_resps": [], "filter": "none",
              "arguments": {"gen_args_0": {"arg_0": "2+2?", "arg_1": {}}}}  # fmt: skip
    self.assertEqual(questions.read([self.lines(record, {**record, "filter": "other"})]), [("3", "2+2?", "")])

  def test_several_files(self):
    paths = [self.write(f"{name}.jsonl", json.dumps({"problem": f"{name}?", "id": 7})) for name in ("one", "two")]
    self.assertEqual(questions.read(paths), [("one/7", "one?", ""), ("two/7", "two?", "")])

  def test_a_problem_that_stands_twice_counts_once(self):
    path = self.lines({"problem": "x", "id": 1}, {"problem": "x", "id": 1})
    self.assertEqual(questions.read([path]), [("1", "x", "")])

  @parameterized.parameters(
    ('{"problem": "x", "id": 1}\n{"problem": "y", "id": 1}', "two problems have the name '1'"),
    ('{"text": "x"}', "record 1 has no problem"), ('{"problem": "x"}\n{"problem', r":2: is not JSON"),
    ("[]", "at least one problem"), ('{"problem": ""}', "record 1 has no problem"),
  )  # fmt: skip
  def test_mistakes(self, content, message):
    with self.assertRaisesRegex(ValueError, message):
      questions.read([self.write("q.jsonl", content)])


class PaperTest(absltest.TestCase):
  def settings(self, *flags: str) -> plan.Settings:
    return generate_flags._settings(_parser().parse_args(["generate", "q.jsonl", *flags]))

  def test_one_command_a_model(self):
    models = plan.preset("paper")["models"]
    self.assertLen(models, 9)
    for name, served in models.items():
      settings = self.settings("--preset=paper", f"--model={name}")
      self.assertEqual((settings.model, settings.samples, settings.max_tokens), (served, 20, 30_000))
      self.assertEqual(settings.temperatures, (0, 0.2, 0.4, 0.6, 0.8, 1))

  def test_the_page_says_how_to_serve_each(self):
    page = (ROOT / "docs" / "traces.md").read_text()
    for name, served in plan.preset("paper")["models"].items():
      self.assertIn(f"| `{name}` | `vllm serve {served} ", page)

  def test_flags_go_over_the_preset(self):
    settings = self.settings("--preset=paper", "--model=other/m", "--samples=2", "--extra_body={}", "--temperatures=0")
    self.assertEqual(
      (settings.model, settings.samples, settings.extra(), settings.temperatures), ("other/m", 2, {}, (0,))
    )

  def test_without_a_model(self):
    with self.assertRaisesRegex(ValueError, "model='' .* one of R1-Distill-Qwen-1.5B, "):
      self.settings("--preset=paper")

  def test_a_preset_of_ones_own(self):
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / "mine.json"
      path.write_text('{"settings": {"samples": 3}, "models": {"a": "b/c"}}')
      self.assertEqual(self.settings(f"--preset={path}", "--model=a").model, "b/c")
      path.write_text('{"settings": {"sample": 3}, "models": {}}')
      with self.assertRaisesRegex(ValueError, "with settings and models"):
        self.settings(f"--preset={path}", "--model=a")


if __name__ == "__main__":
  absltest.main()
