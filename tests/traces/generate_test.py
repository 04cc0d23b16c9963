"""Traces made with a server: what is sent, what is stored, and responses that are streamed."""

from __future__ import annotations

import itertools
import json
import re
import time
from unittest import mock

from absl.testing import absltest, parameterized

from loopjax.traces import readers
from loopjax.traces.trace import Ending
from tests.traces.chat_server import LOOP, chunks, logprobs, serve, whole
from tests.traces.generate_case import GenerateCase


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


if __name__ == "__main__":
  absltest.main()
