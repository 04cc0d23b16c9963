import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from loopjax.traces import measure, scan, table
from loopjax.traces.main import main
from loopjax.traces.trace import Ending, Trace

ROOT = Path(__file__).parents[2]
LOOP = "Wait, let me check that once more. " * 40


def fresh(start: int, num: int) -> list[int]:
  return list(range(start, start + num))


class MeasureTest(parameterized.TestCase):
  def test_a_row_of_ids(self):
    ids = np.array(fresh(1000, 50) + fresh(0, 7) * 40)
    row = measure.row(Trace("p", answer="x", ids=ids, ending=Ending.LENGTH), measure.Settings())
    expected = {
      "units": "ids", "num_units": 330, "recurrence_count": 36, "recurrence_fired": 213, "cycle_onset": 50,
      "cycle_end": 330, "cycle_period": 7, "cycle_repetitions": 40.0, "cycle_is_tail": True, "ending": "length",
      "loop_class": "locked cycle", "answer_units": 330, "reasoning_units": 0,
    }  # fmt: skip
    self.assertEqual({name: row[name] for name in expected}, expected)
    self.assertEqual(set(row) - set(table.COLUMNS), set())

  @parameterized.parameters("ids", "words", "characters")
  def test_units_and_the_marked_turns(self, units):
    text = "Let us begin: " + LOOP + "Done."
    row = measure.row(Trace("p", answer=text), measure.Settings(units=units))
    segments, (start, end, turns), length = json.loads(row["excerpt"])
    self.assertEqual((row["units"], length), ("words" if units == "ids" else units, len(text)))
    whole = dict(segments)
    self.assertEqual("".join(whole.values())[: len(whole[0])], text[: len(whole[0])])
    self.assertEqual(np.median(np.diff(turns)), 35)  # what is left out parts some turns
    self.assertBetween(start, 12, 16)
    self.assertBetween(end, 14 + 35 * 40 - 3, 14 + 35 * 40 + 3)

  def test_parts_apart(self):
    row = measure.row(Trace("p", answer=f"<think>{LOOP}</think>The answer is four."), measure.Settings())
    self.assertEqual((row["reasoning_class"], row["answer_class"]), ("locked cycle", "none"))
    self.assertEqual(row["reasoning_units"] + row["answer_units"], row["num_units"])

  def test_a_lost_response_has_no_measures(self):
    row = measure.row(Trace("p"), measure.Settings())
    self.assertEqual((row["ending"], row.get("loop_class"), row.get("num_units")), ("lost", None, None))

  @parameterized.parameters("\ud800 a", "a\x00b", "\U0001f600" * 50, " ", "\n" * 300, "的" * 500)
  def test_odd_texts(self, text):
    row = measure.row(Trace("\udfff", answer=text, prompt=text), measure.Settings())
    json.dumps(row, ensure_ascii=False).encode("utf-8")

  def test_confidence_is_aligned_to_the_onset(self):
    logprobs = np.log(np.where(np.arange(1000) < 100, 0.25, 0.75))
    bins = np.array(measure.confidence(logprobs, 1000, 100))
    before, after = bins[: measure.BEFORE], bins[measure.BEFORE :]
    np.testing.assert_allclose(before[-6:], 0.25)
    self.assertTrue(np.isnan(before[: measure.BEFORE - 7]).all())
    np.testing.assert_allclose(after[: 900 // measure.BIN], 0.75)
    self.assertIsNone(measure.confidence(logprobs, 999, 100))
    self.assertIsNone(measure.confidence(logprobs, 1000, None))

  @parameterized.parameters(dict(units="tokens"), dict(n=0), dict(k=1), dict(min_length=0))
  def test_settings(self, **kwargs):
    with self.assertRaisesRegex(ValueError, "is not allowed"):
      measure.Settings(**kwargs)


def record(problem: int, sample: int, text: str | None, model: str = "m", temperature: float = 0.0, **others) -> dict:
  names = {"problem_id": f"p{problem}", "sample": sample, "model": model, "temperature": temperature}
  return {**names, "response": text, **others}


class CommandTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def write(self, name: str, records) -> str:
    path = self.folder / name
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return str(path)

  def run_main(self, *arguments: str):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = main(["scan", *arguments])
    return status, out.getvalue(), err.getvalue()

  def summary(self, *arguments: str):
    status, out, _ = self.run_main(*arguments, "--json")
    self.assertEqual(status, 0)
    return json.loads(out)

  def records(self):
    for problem in range(6):
      for sample in range(3):
        yield record(problem, sample, LOOP if problem < 2 else "Four.", correct=problem >= 2, finish_reason="stop")
      yield record(problem, 3, None)
      yield record(problem, 0, LOOP if problem == 0 else "Four.", "teacher", finish_reason="length", correct=True)

  def test_the_table_counts_as_by_hand(self):
    path = self.write("a.jsonl", self.records())
    found = self.summary(path, "--student=m", "--teacher=teacher")
    student, teacher = found["table"]
    self.assertEqual((student["model"], student["responses"], student["problems"]), ("m", 24, 6))
    shares = {name: student[name]["share"] for name in ("by_recurrence", "by_locked_cycle", "lost", "cut", "accuracy")}
    self.assertEqual(shares, {
      "by_recurrence": 6 / 18, "by_locked_cycle": 6 / 18, "lost": 0.25, "cut": 0.0, "accuracy": 12 / 18})  # fmt: skip
    self.assertEqual(student["by_recurrence"]["num"], 18)  # lost ones do not count
    self.assertEqual(student["classes"]["locked cycle"]["share"], 6 / 18)
    self.assertEqual(student["mean_length_other"], 2)
    self.assertEqual((teacher["cut"]["share"], teacher["unknown_ending"]["share"]), (1, 0))
    (pair,) = found["pair"]
    self.assertAlmostEqual(pair["difference"]["value"], 2 / 6 - 1 / 6)
    length = student["mean_length_looping"]
    self.assertAlmostEqual(pair["length_ratio"]["value"], (2 * length + 4 * 2) / (length + 5 * 2))

  def test_writes_a_tidy_table_and_a_page_that_has_every_response(self):
    records = [*self.records(), "broken", record(9, 0, "</script><b>\ud800\u2028", "<i>&"), record(0, 0, "again")]
    path, output = self.write("a.jsonl", records), self.folder / "out"
    status, out, err = self.run_main(path, f"--output_dir={output}")
    self.assertEqual(status, 0)
    self.assertIn(f"{path}:31: is not JSON", err)
    frame = pd.read_parquet(output / "responses.parquet")
    self.assertEqual(list(frame.columns), [name for name in table.COLUMNS if name not in table.SHOWN])
    self.assertLen(frame, 31)
    self.assertFalse(frame.duplicated(["model", "temperature", "problem", "sample"]).any())
    page = (output / "report.html").read_text(encoding="utf-8")
    self.assertNotIn("<i>&", page)
    self.assertNotRegex(page, r'(src|href)="http')
    self.assertLen(re.findall(r'id="block-\d+"', page), 1)
    self.assertGreaterEqual({path.name for path in (output / "figures").iterdir()}, {"models.svg", "map.svg"})
    self.assertEqual(json.loads((output / "summary.json").read_text())["problems"]["counts"], {
      "unreadable": 1, "duplicate": 1})  # fmt: skip

  def test_two_files_of_one_problem_are_joined(self):
    records = list(self.records())
    apart = self.summary(self.write("a.jsonl", records[:15]), self.write("b.jsonl", records[15:]))
    together = self.summary(self.write("c.jsonl", records))
    self.assertEqual(apart["table"], together["table"])

  def test_a_run_that_was_stopped_goes_on_to_the_same_table(self):
    paths = [self.write("a.jsonl", self.records()), self.write("b.jsonl", [*self.records(), "broken"])]
    whole, parted = self.folder / "whole", self.folder / "parted"
    self.run_main(*paths, f"--output_dir={whole}")
    calls, row = [], measure.row

    def stop(trace, settings):
      calls.append(trace)
      if len(calls) in (17, 45):
        raise KeyboardInterrupt
      return row(trace, settings)

    with mock.patch.object(scan, "ROWS", 5), mock.patch.object(measure, "row", stop):
      statuses = [self.run_main(*paths, f"--output_dir={parted}")[0] for _ in range(3)]
    self.assertEqual(statuses, [130, 130, 0])
    self.assertLess(len(calls), 60 + 2 * 5 + 1)  # of each stop at most a part is measured twice
    frames = [pd.read_parquet(folder / "responses.parquet") for folder in (whole, parted)]
    pd.testing.assert_frame_equal(*frames)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (whole, parted)]
    self.assertEqual(*summaries)

  def test_killed_for_real_and_resumed(self):
    records = (record(i, 0, f"It is {i}.") for i in range(1500))
    path, output = self.write("a.jsonl", records), self.folder / "out"
    command = [sys.executable, "-m", "experiments.real_traces", "scan", path, f"--output_dir={output}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(output.glob("parts/*.parquet")) and process.poll() is None:
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    frame = pd.read_parquet(output / "responses.parquet")
    self.assertEqual(frame["problem"].tolist(), [f"p{i}" for i in range(1500)])

  def test_another_scan_in_the_folder_is_refused(self):
    path, output = self.write("a.jsonl", self.records()), f"--output_dir={self.folder / 'out'}"
    self.run_main(path, output)
    status, _, err = self.run_main(path, output, "--n=20")
    self.assertEqual((status, err.count("\n")), (2, 1))
    self.assertIn("has another scan", err)

  @parameterized.parameters(
    (["nowhere.jsonl"], "FILES='nowhere.jsonl' is not allowed"),
    (["{path}", "--format=nothing"], "format='nothing' is not allowed: must be one of openai_batch"),
    (["{path}", "--student=m"], "given with teacher"),
    (["{path}", "--student=m", "--teacher=x"], "teacher='x' is not allowed: must be one of the models, 'm', 'teacher'"),
    (["{path}", "--n=0"], "n=0 is not allowed"),
    (["{path}", "--tokenizer=nowhere.json"], "nowhere.json"),
    (["{path}", "--output_dir={path}"], "cannot be a folder"),
  )
  def test_mistakes_end_with_one_line(self, arguments, message):
    path = self.write("a.jsonl", self.records())
    status, out, err = self.run_main(*(one.format(path=path) for one in arguments))
    self.assertEqual((status, out, err.count("\n")), (2, "", 1))
    self.assertIn(message, err)

  def test_hard_and_easy_problems(self):
    path = self.write("a.jsonl", [one for one in self.records() if one["model"] == "m"])
    (found,) = self.summary(path)["difficulty"]
    self.assertEqual([found[kind]["share"] for kind in ("hard", "easy")], [1, 0])

  def test_a_variant_is_a_class_and_does_not_count_as_looping(self):
    """Most variants of real models are lists of cases: docs/traces.md."""
    variant = "".join(f"in case number {i} we find that the whole of it is right and can be kept. " for i in range(30))
    (found,) = self.summary(self.write("a.jsonl", [record(0, 0, variant), record(1, 0, LOOP)]))["table"]
    self.assertEqual((found["classes"]["variant"]["share"], found["looping_in_answer"]["share"]), (0.5, 0.5))
    self.assertLess(found["mean_length_looping"], found["mean_length_other"])

  def test_no_response_at_all(self):
    status, out, err = self.run_main(self.write("a.jsonl", ["broken"]))
    self.assertEqual((status, out), (1, "no responses\n"))
    self.assertIn("records that could not be read: 1", err)

  def test_names_for_files_that_do_not_name_their_model(self):
    path = self.write("qwen.part.jsonl", [{"response": "Four."}])
    found = self.summary(path, "--model={file}", "--temperature=0.5")["table"][0]
    self.assertEqual((found["model"], found["temperature"]), ("qwen", 0.5))

  def test_help_has_a_text_for_every_flag(self):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), self.assertRaises(SystemExit):
      main(["scan", "--help"])
    self.assertLen(re.findall(r"^  --\w+.*\n? {10,}\S|^  --\w+ +\S+ +\S{2,} ", out.getvalue(), re.MULTILINE), 14)

  def loaded(self, *arguments: str) -> tuple[float, set[str]]:
    """Seconds of processor time of the command in a process of its own, and which heavy modules it imported."""
    script = (
      "import sys, time\nfrom loopjax.traces.main import main\nmain(sys.argv[1:])\n"
      "print(time.process_time(), *({'jax', 'pandas', 'pyarrow', 'matplotlib'} & sys.modules.keys()))"
    )
    environment, command = {**os.environ, "PYTHONPATH": str(ROOT)}, [sys.executable, "-c", script, "scan", *arguments]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    seconds, *modules = out.splitlines()[-1].split()
    return float(seconds), set(modules)

  def test_the_table_of_ten_lines_takes_less_than_a_second_of_processor_time(self):
    seconds, modules = self.loaded(self.write("a.jsonl", list(self.records())[:10]))
    self.assertEqual(modules, set())
    self.assertLess(seconds, 1)

  def test_nothing_imports_jax(self):
    path, output = self.write("a.jsonl", self.records()), f"--output_dir={self.folder / 'out'}"
    self.assertNotIn("jax", self.loaded(path, output, "--student=m", "--teacher=teacher")[1])


if __name__ == "__main__":
  absltest.main()
