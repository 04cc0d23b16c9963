"""The benchmark's bookkeeping: pairs, ratios, what it divides by. Its figures are no tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from absl.testing import absltest, parameterized

from experiments.benchmarks import benchmark, rates
from experiments.benchmarks.peers.torch_workers import TorchWorkers
from loopjax.models.transformer import Transformer
from loopjax.star_graph import theory
from tests.experiments.fake_peer import FakePeer, Variant

ROOT = Path(__file__).parents[2]


class WorkersTest(parameterized.TestCase):
  def test_rates_add_up_and_closing_ends_the_workers(self):
    workers = TorchWorkers(Variant(2), FakePeer, "made")
    self.assertEqual(workers.rate(0.0), 4.0)
    children = [process for pool in workers.pools for process in pool._processes.values()]
    workers.close()
    self.assertEqual([child.exitcode for child in children], [0, 0])

  @parameterized.product(number=[signal.SIGKILL, signal.SIGTERM], seconds=[0.0, 3600.0])
  def test_a_benchmark_that_is_killed_takes_its_workers_along(self, number, seconds):
    # Whoever lives holds the pipe open. After 0 s the workers are idle, and else at work.
    command = [sys.executable, "-m", "tests.experiments.fake_peer", str(seconds)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True)
    self.addCleanup(self.kill_all, child.pid)
    said = [child.stdout.readline() for _ in range(3)]
    self.assertCountEqual(said, [b"made\n", b"made\n", b"measures\n"])
    if seconds == 0:
      self.assertEqual(child.stdout.readline(), b"4.0\n")
    child.send_signal(number)
    child.communicate(timeout=30)
    self.assertEqual(child.returncode, -number)

  def kill_all(self, session: int) -> None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(session, signal.SIGKILL)


class BenchmarkTest(absltest.TestCase):
  def test_sides_alternate_and_the_ratio_is_the_median_within_a_turn(self):
    calls, ours, peer = [], iter((10.0, 40.0, 30.0)), iter((5.0, 10.0, 30.0))

    def side(name, rates):
      return lambda: (calls.append(name), next(rates))[1]

    measurement = benchmark.Measurement(
      "walks/s", side("ours", ours), side("peer", peer), "somebody", close=lambda: calls.append("closed")
    )
    record = benchmark.measure(benchmark.Case("name", lambda: measurement), repetitions=3)
    self.assertEqual(calls, ["ours", "peer"] * 3 + ["closed"])
    self.assertEqual((record.ours, record.peer, record.ratio), (30.0, 10.0, 2.0))
    self.assertAlmostEqual(record.spread, (4.0 - 1.0) / 2 / 2.0)
    self.assertIn("somebody", benchmark.table([record]))

  def test_walks_are_counted_by_the_exact_teachers_mean_length(self):
    exact = theory.teacher_statistics(rates.TASK).response_length - 1  # the last node is no input
    self.assertAlmostEqual(rates.mean_walk_length(rates.TASK), exact, delta=0.02 * exact)

  def test_operations_of_a_step_on_one_row(self):
    model = Transformer(num_layers=1, num_heads=1, width=1, mlp_ratio=1, positions="none")
    # 2 (multiply, add) x 3 (forward, two products backward) x [6 maps of 1 x 1 at 2 + 3 positions; scores and mixing:
    # 2 x 2 for the prompt, 3 x (2 + 3) for the stream, twice; the head over V at 3 positions].
    expected = 6 * (6 * 5 + 2 * (4 + 15) + 3 * rates.TASK.vocabulary_size)
    self.assertEqual(rates.floating_point_operations(model, rates.TASK, prompt=2, stream=3), expected)


if __name__ == "__main__":
  absltest.main()
