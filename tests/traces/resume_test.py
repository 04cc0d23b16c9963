"""Traces made with a server: what fails, and runs that are stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

from absl.testing import absltest, parameterized

from loopjax.traces import readers, text
from tests.traces import chat_server
from tests.traces.chat_server import serve, whole
from tests.traces.generate_case import GenerateCase

ROOT = Path(__file__).parents[2]


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
