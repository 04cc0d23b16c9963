import io
import math
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from loopjax.traces import columns, compare, measure, summary, text


def rows(model: str, temperature: float | None, loops: dict[str, list[int]], **others) -> list[dict]:
  """A row a response: problem -> 1 for a looping one of 100 units, 0 for another of 10, -1 for a lost one."""
  made = []
  for problem, responses in loops.items():
    for loop in responses:
      about = {"model": model, "temperature": temperature, "problem": problem, "ending": "finished", **others}
      kind = {1: "locked cycle", 0: "none", -1: None}[loop]
      measures = {"units": "ids", "loop_class": kind, "num_units": 100 if loop else 10, "counts": [loop * 30] * 8}
      made.append({**about, **measures} if loop >= 0 else {**about, "ending": "lost"})
  return made


class CompareTest(parameterized.TestCase):
  def test_pairs_are_by_problem_and_temperature(self):
    student = rows("s", 0.0, {"a": [1, 1], "b": [1, 0], "c": [0, -1], "only": [1]}) + rows("s", 1.0, {"a": [0]})
    teacher = rows("t", 0.0, {"a": [1], "b": [0], "c": [0], "other": [1]}) + rows("t", None, {"a": [1]})
    (found,) = compare.pair(columns.of_rows(student + teacher), "s", "t")
    self.assertEqual((found["temperature"], found["problems"]), (0.0, 3))
    self.assertAlmostEqual(found["student_looping"], (1 + 0.5 + 0) / 3)
    self.assertAlmostEqual(found["difference"]["value"], 0.5 / 3)
    self.assertAlmostEqual(found["length_ratio"]["value"], (100 + 55 + 10) / (100 + 10 + 10))

  def test_lost_responses_are_in_no_looping_share_but_in_their_group(self):
    (found,) = summary.summarise(columns.of_rows(rows("m", 0.0, {"a": [1, -1], "b": [0, -1], "c": [0]})))
    self.assertEqual((found["responses"], found["looping"]["num"], found["lost"]["share"]), (5, 3, 0.4))
    self.assertEqual(found["looping"]["share"], 1 / 3)
    self.assertEqual(found["map"][0], [1 / 3] * 4 + [0, 0])  # k up to 20 of a count of 30

  def test_a_group_of_lost_responses_alone(self):
    (found,) = summary.summarise(columns.of_rows(rows("m", None, {"a": [-1]})))
    self.assertEqual((found["looping"], found["map"], found["temperature"]), (None, None, None))
    self.assertIn("unknown", text.table(summary.summarise(columns.of_rows(rows("", None, {"a": [-1]})))))

  def test_confidence_is_averaged_over_problems_first(self):
    bins = lambda value: [value] * (measure.BEFORE + measure.AFTER)
    curves = {"a": [0.2, 0.4], "b": [0.6], "c": [math.nan], "d": [0.9]}
    made = [{**rows("m", 0.0, {p: [1]})[0], "confidence": bins(v)} for p, values in curves.items() for v in values]
    (found,) = compare.confidence(columns.of_rows(made))
    self.assertEqual((found["responses"], found["position"][measure.BEFORE]), (5, measure.BIN / 2))
    np.testing.assert_allclose(found["mean"], np.mean([0.3, 0.6, 0.9]))
    np.testing.assert_allclose(found["low"], max(0, 0.6 - 4.302653 * 0.3 / math.sqrt(3)), rtol=1e-6)

  def test_no_responses(self):
    none = columns.of_rows([])
    found = (summary.summarise(none), compare.difficulty(none), compare.confidence(none))
    self.assertEqual((*found, text.table([])), ([], [], [], "no responses"))


class ProgressTest(absltest.TestCase):
  def test_tells_the_time_left_from_this_runs_own_speed(self):
    stream = io.StringIO()
    with mock.patch.object(text.time, "monotonic", side_effect=[0, 0, 100, 160]):
      progress = text.Progress(1000, stream)
      progress(500, 10)  # read by a run before
      progress(600, 20)
      progress(700, 30)
    lines = ["60% read, 20 responses, 7 min left", "70% read, 30 responses, 4 min left"]
    self.assertEqual(stream.getvalue().splitlines(), lines)


if __name__ == "__main__":
  absltest.main()
