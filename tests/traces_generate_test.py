"""Traces made with a server: what is sent and stored, what fails, and runs that are stopped."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

from absl.testing import absltest, parameterized

from loopjax.traces import readers, request, text
from loopjax.traces.main import main
from loopjax.traces.trace import Ending
from tests import chat_server
from tests.chat_server import LOOP, chunks, logprobs, serve, whole

ROOT = Path(__file__).parents[1]


class GenerateCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.output = self.folder / "out.jsonl"
    self.enterContext(mock.patch.object(request, "FIRST_WAIT", 0.01))
    self.problems = self.write("p.jsonl", [{"id": f"p{i}", "problem": f"{i} + 1?", "answer": "4"} for i in range(3)])

  def write(self, name: str, records) -> str:
    path = self.folder / name
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)

  def words(self, server, *flags: str, samples: int = 2) -> list[str]:
    given = dict(flag.partition("=")[::2] for flag in flags)
    ours = {"--base_url": server.url, "--model": "org/m", "--temperatures": "0,1", "--samples": str(samples),
            "--output": str(self.output)}  # fmt: skip
    return ["generate", self.problems, *(f"{a}={b}" if b else a for a, b in (ours | given).items())]

  def run_main(self, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = main(arguments)
    return status, out.getvalue(), err.getvalue()

  def make(self, server, *flags: str, samples: int = 2) -> tuple[int, str, str]:
    return self.run_main(*self.words(server, *flags, samples=samples))

  def records(self) -> list[dict]:
    return [json.loads(line) for line in self.output.read_bytes().splitlines()]

  def traces(self) -> list:
    return list(readers.read([str(self.output)]))

  def assert_whole(self, num_problems: int = 3, samples: int = 2):
    """Each problem, temperature and sample once."""
    found = sorted((one["problem_id"], one["temperature"], one["sample"]) for one in self.records())
    asked = itertools.product([f"p{i}" for i in range(num_problems)], [0, 1], range(samples))
    self.assertEqual(found, sorted(asked))


class ResponseTest(GenerateCase):
  def test_the_road_from_problems_to_the_table(self):
    def answer(asked, number):
      is_greedy = asked["temperature"] == 0
      return whole(asked, LOOP * 40 if is_greedy else "It is \\boxed{4}.", "length" if is_greedy else "stop")

    with serve(answer) as server:
      status, out, err = self.make(server)
    self.assertEqual((status, out, err), (0, f"{self.output}: 12 of 12 responses\n", ""))
    self.assert_whole()
    status, out, _ = self.run_main("scan", str(self.output), "--json")
    cold, hot = json.loads(out)["table"]
    self.assertEqual((cold["model"], cold["temperature"], cold["responses"], cold["problems"]), ("org/m", 0, 6, 3))
    self.assertEqual((cold["by_recurrence"]["share"], cold["cut"]["share"], cold["accuracy"]["share"]), (1, 1, 0))
    self.assertEqual((hot["by_recurrence"]["share"], hot["cut"]["share"], hot["accuracy"]["share"]), (0, 0, 1))

  def test_every_sampling_parameter_is_sent_and_seeds_differ(self):
    extra = '{"repeat_penalty": 1.0, "top_k": 0, "frequency_penalty": null}'
    with serve() as server:
      self.make(server, "--max_tokens=77", "--logprobs", f"--extra_body={extra}", "--template=Solve {problem} {x}")
      asked = server.requests
    self.assertLen({one["seed"] for one in asked}, 12)
    first = next(one for one in asked if "0 + 1?" in one["messages"][0]["content"] and one["temperature"] == 0)
    self.assertEqual(first["messages"], [{"role": "user", "content": "Solve 0 + 1? {x}"}])
    expected = {"model": "org/m", "n": 1, "temperature": 0, "top_p": 1, "max_tokens": 77, "presence_penalty": 0,
                "stream": False, "logprobs": True, "repeat_penalty": 1, "top_k": 0}  # fmt: skip
    self.assertEqual({k: v for k, v in first.items() if k not in ("messages", "seed")}, expected)
    seeds = {(one["problem_id"], one["temperature"], one["sample"]): one["seed"] for one in self.records()}
    self.output.unlink()
    with serve() as server:
      self.make(server, "--no_seed")
      self.assertNotIn("seed", server.requests[0])
      self.output.unlink()
      self.make(server)
    again = {(one["problem_id"], one["temperature"], one["sample"]): one["seed"] for one in self.records()}
    self.assertEqual(seeds, again)

  def test_ids_logprobs_and_the_servers_own_fields_are_kept(self):
    parts = dict(token_ids=[5, 6], logprobs=logprobs(-0.5, float("nan")))
    with serve(lambda asked, number: whole(asked, **parts)) as server:
      self.make(server, "--logprobs")
    trace = self.traces()[0]
    self.assertEqual((trace.ids.tolist(), trace.logprobs[0], trace.ending), ([5, 6], -0.5, Ending.FINISHED))
    record = self.records()[0]
    self.assertEqual((record["server_model"], record["usage"]["completion_tokens"]), ("served-org/m", 6))
    self.assertEqual((record["reference"], record["prompt"][1:]), ("4", " + 1?"))

  def test_says_where_the_server_leaves_log_probabilities_out(self):
    with serve() as server:
      status, _, err = self.make(server, "--logprobs")
    self.assertEqual((status, err.count("\n")), (0, 1))
    self.assertIn("12 responses came without log-probabilities", err)

  def test_settings_are_kept_beside(self):
    with serve() as server:
      self.make(server)
    kept = json.loads((self.folder / "out.jsonl.settings").read_text())
    self.assertContainsSubset(
      ["model", "base_url", "temperatures", "top_p", "max_tokens", "seed", "problems", "template_sha256"],
      kept["identity"],
    )
    self.assertEqual(kept["identity"]["problems"]["number"], 3)
    self.assertIsNotNone(kept["versions"]["openai"])
    traces = list(readers.read([str(self.folder)]))
    self.assertLen([one for one in traces if getattr(one, "model", "") == "org/m"], 12)  # the settings are no traces

  def test_reasoning_apart_and_empty_answers(self):
    message = {"role": "assistant", "content": None, "reasoning_content": "Hm."}
    with serve(lambda asked, number: whole(asked, message=message, end="length")) as server:
      self.make(server)
    self.assertEqual([(one.reasoning, one.answer, one.ending) for one in self.traces()][0], ("Hm.", "", Ending.LENGTH))
    self.assertLen(self.traces(), 12)

  @parameterized.parameters(
    ("It is \\boxed{4}.", "4", True), ("\\boxed{3} or \\boxed{ 004 }", "4", True), ("4", "4", False),
    ("<think>\\boxed{4}</think> None.", "4", False), ("\\boxed{1{,}000}", "1000", False), ("\\boxed{x}", "x", None),
    ("\\boxed{1\\,000}", "1,000", True), ("", "7", False), ("\\boxed{7}", "", None),
  )  # fmt: skip
  def test_grades(self, content, reference, expected):
    from loopjax.traces import grading

    self.assertIs(grading.is_right(content, reference), expected)


class StreamTest(GenerateCase):
  @parameterized.parameters((False, "words", 5), (True, "ids", 7))
  def test_stops_where_a_cycle_has_begun(self, ids, units, least_period):
    pieces = re.findall(r"\S+ ", "So we begin with the first of the cases here. " + LOOP * 300)
    with serve(lambda asked, number: chunks(asked, pieces, ids=ids)) as server:
      status, _, _ = self.make(server, "--stop_on_loop", samples=1)
      self.assertEqual(status, 0)
      time.sleep(0.05)
      self.assertLess(server.sent, 6 * len(pieces) / 2)  # the server was told
    trace, record = self.traces()[0], self.records()[0]
    self.assertEqual(trace.ending, Ending.REPETITION)
    self.assertStartsWith("".join(pieces), trace.text)
    self.assertGreaterEqual(len(trace.text), 3 * len(LOOP))
    self.assertLess(len(trace.text), 12 * len(LOOP))
    self.assertEqual(record["loop"]["units"], units)
    self.assertGreaterEqual(record["loop"]["period"], least_period)
    self.assertLen(trace.logprobs, len(re.findall(r"\S+ ", trace.text)))
    status, out, _ = self.run_main("scan", str(self.output), "--json")
    self.assertEqual(json.loads(out)["table"][0]["by_locked_cycle"]["share"], 1)

  @parameterized.parameters("content", "reasoning", "reasoning_content")
  def test_a_streamed_response_is_as_a_whole_one(self, field):
    pieces = [f"Step {i}. " for i in range(40)]
    with serve(lambda asked, number: chunks(asked, pieces, "length", field)) as server:
      self.make(server, "--stop_on_loop", samples=1)
    trace = self.traces()[0]
    self.assertEqual((trace.text, trace.ending), ("".join(pieces), Ending.LENGTH))
    self.assertEqual(trace.reasoning, "" if field == "content" else trace.text)
    self.assertEqual(self.records()[0]["usage"]["completion_tokens"], 40)

  def test_a_stream_that_breaks_off_is_asked_for_again(self):
    def answer(asked, number):
      return chunks(asked, ["It ", "is."], "stop" if number > 4 else None)

    with serve(answer) as server:
      self.assertEqual(self.make(server, "--stop_on_loop", "--concurrency=2", samples=1)[0], 0)
      self.assertLen(server.requests, 6 + 4)
    self.assertEqual({one.text for one in self.traces()}, {"It is."})

  def test_words_are_those_of_a_scan_however_the_text_is_cut(self):
    from loopjax.loops import units
    from loopjax.loops.online import CycleWatch
    from loopjax.traces import stopping

    written = "Can't stop.  The  value 000000 is 3.14, " + "!" * 90 + " and\n\n" + "对不起。再说。" * 9 + " e.g. " * 9
    for size in (1, 2, 3, 7, 64, 500):
      watch = stopping.LoopWatch(10**6)
      with mock.patch.object(CycleWatch, "extend", autospec=True) as extend:
        for start in range(0, len(written), size):
          watch.add(written[start : start + size])
      found = [one for call in extend.call_args_list for one in call.args[1]]
      names = {number: word for word, number in watch._names.items()}
      whole_text = units.words(written)
      expected = [written[a:b].removesuffix(" ") or " " for a, b in itertools.pairwise(whole_text.starts)]
      self.assertGreater(len(found), len(expected) - 64)
      self.assertEqual([names[one] for one in found], expected[: len(found)], size)


class FailureTest(GenerateCase):
  @parameterized.parameters(429, 500, 503, 408)
  def test_what_may_be_better_later_is_tried_again(self, status):
    busy = (status, '{"error": {"message": "busy"}}')
    with serve(lambda asked, number: busy if number % 2 else whole(asked)) as server:
      self.assertEqual(self.make(server, "--concurrency=1")[0], 0)
      self.assertLen(server.requests, 24)
    self.assert_whole()

  def test_the_servers_own_wait_is_kept(self):
    busy = (429, "{}", "application/json", "1")
    with serve(lambda asked, number: busy if number == 1 else whole(asked)) as server:
      start = time.monotonic()
      self.assertEqual(self.make(server, samples=1)[0], 0)
    self.assertGreater(time.monotonic() - start, 1)

  @parameterized.parameters(
    dict(answer=(200, "<html>hello</html>", "text/html")), dict(answer=(200, '{"choices": ')),
    dict(answer=(200, '{"choices": []}')), dict(answer=(200, "[]")), dict(answer=(500, "down")),
    dict(answer=(400, '{"error": {"message": "too long"}}')),
  )  # fmt: skip
  def test_one_problem_that_fails_leaves_the_others(self, answer):
    broken = lambda asked: asked["messages"][0]["content"].startswith("1 ")
    with serve(lambda asked, number: answer if broken(asked) else whole(asked)) as server:
      status, out, err = self.make(server, "--retries=1")
      self.assertEqual((status, out), (1, ""))
      self.assertRegex(err, r"8 of 12 responses; 4 failed, the same command tries them again. The first: \w+.*\n$")
      self.assertLen(server.requests, 8 + (4 if answer[0] == 400 else 8))
      server.answer = lambda asked, number: whole(asked)
      self.assertEqual(self.make(server)[0], 0)
    self.assert_whole()

  def test_time_outs(self):
    with serve(lambda asked, number: time.sleep(1) if number == 1 else whole(asked)) as server:
      self.assertEqual(self.make(server, "--timeout=0.3")[0], 0)
      self.assertLen(server.requests, 13)
    self.assert_whole()

  def test_a_server_that_hangs_up_once(self):
    with serve(lambda asked, number: None if number == 3 else whole(asked)) as server:
      self.assertEqual(self.make(server)[0], 0)
    self.assert_whole()

  def test_a_server_that_dies_ends_the_run_and_what_is_there_stays(self):
    def answer(asked, number):
      if number == 7:
        threading.Thread(target=server.close).start()
        return None
      return whole(asked)

    with serve(answer) as server:
      status, out, err = self.make(server, "--concurrency=1", "--retries=2")
    self.assertEqual((status, out, err.count("\n")), (2, "", 1))
    self.assertIn("the server does not answer", err)
    self.assertLen(self.records(), 6)

  @parameterized.parameters(401, 404)
  def test_what_all_requests_would_get_ends_the_run_at_once(self, status):
    with serve(lambda asked, number: (status, '{"error": {"message": "no model org/m"}}')) as server:
      found, _, err = self.make(server, "--concurrency=1")
      self.assertLen(server.requests, 1)
    self.assertEqual((found, err.count("\n")), (2, 1))
    self.assertIn("no model org/m", err)

  def test_twenty_failures_in_a_row_end_the_run(self):
    with serve(lambda asked, number: (422, '{"error": {"message": "min_p?"}}')) as server:
      found, _, err = self.make(server, "--concurrency=1", samples=9)
      self.assertLen(server.requests, 20)
    self.assertEqual(found, 2)
    self.assertIn("20 requests failed in a row, the last, p1 0.0 3: UnprocessableEntityError", err)

  def test_without_the_client_there_is_one_line(self):
    with serve() as server, mock.patch.dict(sys.modules, {"openai": None}):
      status, out, err = self.make(server)
    self.assertEqual((status, out), (2, ""))
    self.assertEqual(err, 'error: generate needs the package openai: pip install "loopjax[generate]"\n')
    self.assertFalse(self.output.exists())

  @parameterized.parameters(
    ("--temperatures=hot", "numbers, separated by commas"), ("--temperatures=0,0", "comes more than once"),
    ("--samples=0", "at least 1"), ("--base_url=localhost", "an address"), ("--template=hello", "{problem}"),
    ("--extra_body=[]", "a JSON object"), ('--extra_body={"n": 2}', "without n"), ("--top_p=0", "above 0"),
    ("--concurrency=0", "from 1 to"), ("--timeout=0", "above 0"), ("--retries=-1", "at least 0"),
    ("--preset=nothing", "paper, or a JSON file"), ("--output=/", "is a folder"),
  )  # fmt: skip
  def test_mistakes_end_with_one_line(self, flag, message):
    with serve() as server:
      status, out, err = self.make(server, flag)
      self.assertEmpty(server.requests)
    self.assertEqual((status, out, err.count("\n")), (2, "", 1))
    self.assertIn(message, err)


class ProgressTest(absltest.TestCase):
  def test_tells_the_time_left_of_what_this_run_makes(self):
    stream, clock = io.StringIO(), iter([0.0, 100.0, 110.0, 120.0])
    stream.isatty = lambda: True
    with mock.patch.object(time, "monotonic", lambda: next(clock)):
      progress = text.Progress(100, stream, done="done")
      for there in (40, 45, 50):  # 40 are of a run before
        progress(there, there)
    self.assertEndsWith(stream.getvalue(), "50% done, 50 responses, 2 min left")


class ResumeTest(GenerateCase):
  def test_what_is_there_is_not_asked_for_again(self):
    with serve() as server:
      self.make(server)
      before = self.output.read_bytes()
      self.assertEqual(self.make(server)[0], 0)
      self.assertLen(server.requests, 12)
      self.assertEqual(self.output.read_bytes(), before)

  def test_a_half_line_is_cut_off_wherever_it_ends(self):
    with serve() as server:
      self.make(server)
      full = self.output.read_bytes()
      last = full.rstrip(b"\n").rfind(b"\n") + 1
      for end in (last + 1, (last + len(full)) // 2, len(full) - 1):
        self.output.write_bytes(full[:end])
        self.assertEqual(self.make(server)[0], 0)
        self.assert_whole()
        self.assertStartsWith(self.output.read_bytes(), full[:last])
      self.assertLen(server.requests, 12 + 3)

  @parameterized.parameters(
    ("--max_tokens=9", "max_tokens=4096, not 9"), ("--model=other", "model='org/m', not 'other'"),
    ("--template={problem}!", "template='{problem}', not"), ("--samples=3", "samples=2, not 3"),
    ('--extra_body={"top_k": 1}', "no extra_body.top_k, not 1"),
    ('--extra_body={"top_p": null}', "no extra_body.top_p, not None"),
    ("--stop_on_loop", "stop_on_loop=False, not True"),
  )  # fmt: skip
  def test_other_settings_are_refused(self, flag, message):
    with serve() as server:
      self.make(server)
      before = self.output.read_bytes()
      status, _, err = self.make(server, flag)
      self.assertLen(server.requests, 12)
    self.assertEqual((status, err.count("\n"), self.output.read_bytes()), (2, 1, before))
    self.assertIn(message, err)

  def test_other_problems_are_refused_and_other_patience_is_not(self):
    with serve() as server:
      self.make(server)
      self.assertEqual(self.make(server, "--concurrency=3", "--timeout=9", "--retries=0")[0], 0)
      self.write("p.jsonl", [{"problem": "else"}])
      status, _, err = self.make(server)
    self.assertEqual(status, 2)
    self.assertIn("problems.number=3, not 1", err)

  @parameterized.parameters(b"my own notes\n", b'{"response": "4"}\n', b"half")
  def test_a_file_of_another_origin_is_left_alone(self, content):
    self.output.write_bytes(content)
    with serve() as server:
      status, _, err = self.make(server)
    self.assertEqual((status, self.output.read_bytes()), (2, content))
    self.assertIn("choose another --output", err)

  def start(self, server, samples: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.real_traces", *self.words(server, samples=samples)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

  def wait_for_lines(self, process: subprocess.Popen, num: int) -> None:
    while process.poll() is None and (not self.output.exists() or self.output.read_bytes().count(b"\n") < num):
      time.sleep(0.002)

  def answer_slowly(self, asked, number):
    time.sleep(0.02)
    return whole(asked, f"{number} " + "x" * 50_000)

  def test_killed_twice_and_resumed(self):
    with serve(self.answer_slowly) as server:
      for lines in (20, 60):
        process = self.start(server, 30)
        self.wait_for_lines(process, lines)
        process.kill()
        process.communicate()
        with open(self.output, "ab") as file:  # as if killed in the middle of a line
          file.write(b'{"id": "p0 T=0 0", "problem_id": "p')
      self.assertLess(self.output.read_bytes().count(b"\n"), 180)
      process = self.start(server, 30)
      self.assertEqual((process.communicate()[1], process.returncode), ("", 0))
      self.assertLessEqual(len(server.requests), 180 + 2 * 8)
    self.assert_whole(samples=30)
    self.assertTrue(all(isinstance(one, readers.reading.Trace) for one in self.traces()))

  @parameterized.parameters(signal.SIGINT, signal.SIGTERM)
  def test_signals_end_cleanly(self, number):
    with serve(self.answer_slowly) as server:
      process = self.start(server, 30)
      self.wait_for_lines(process, 10)
      process.send_signal(number)
      _, err = process.communicate()
      self.assertEqual(process.returncode, 128 + number)
      self.assertRegex(err, r"^\S+: \d+ of 180 responses; stopped, the same command goes on from here\n$")
      self.assertEndsWith(self.output.read_text(), "\n")
      server.answer = lambda asked, number: chat_server.whole(asked)
      process = self.start(server, 30)
      process.communicate()
    self.assert_whole(samples=30)

  def test_a_second_process_is_kept_out(self):
    with serve(self.answer_slowly) as server:
      process = self.start(server, 30)
      self.wait_for_lines(process, 3)
      status, _, err = self.make(server, samples=30)
      process.kill()
      process.communicate()
    self.assertEqual(status, 2)
    self.assertIn("another process writes there", err)


if __name__ == "__main__":
  absltest.main()
