"""Tidy frames of the confidence inside loops, and their figures."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest

from experiments.injected_loop_claims import claims
from experiments.injected_loop_conditions import InjectedLoops
from loopjax import claim_measures, plotting
from loopjax.analysis import loop_confidence
from loopjax.analysis.confidence import QUANTILES
from loopjax.runtime import devices, seeds
from loopjax.star_graph.evaluation import Rollouts
from loopjax.star_graph.graph import Graph, StarGraph
from loopjax.star_graph.objective import MaximumLikelihood
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training

TASK = StarGraph(num_chains=3, chain_length=1, max_steps=12)
LOOP, ENDS = 6 * [0, 1], [0, 1, 3, 0, 1, 2, *(6 * [PADDING])]


def evaluate() -> loop_confidence.LoopFrames:
  """Two students, the second not finite, at two temperatures: at the first both walks loop, at the second one does."""
  nodes = np.array([[LOOP, LOOP], [LOOP, ENDS]])  # [G, R, W]
  values = np.broadcast_to(np.linspace(0.1, 0.6, 12), nodes.shape) + np.array([0.0, 0.2])[:, None, None]
  mesh = devices.device_mesh()
  nodes, values = (seeds.place(np.stack([x, x]), mesh) for x in (nodes, values.astype(np.float32)))
  nothing = Problems(Graph(*2 * [jax.numpy.zeros(())]), jax.numpy.zeros(()))
  group = Students(
    [TASK], None, Training(), [0, 1], [MaximumLikelihood()], mesh, None, np.array([True, False]), pd.DataFrame()
  )
  rollouts = Rollouts(nodes, values, None, None, nothing)
  return loop_confidence.evaluate_loops(group, rollouts, temperatures=(0.0, 1.0), repetitions=(1, 3))


class FramesTest(absltest.TestCase):
  def test_known_loops(self):
    """s-r from s on, counted from the r after it: repetition m has indices 2 m - 1 and 2 m, which average 2 m - 1/2."""
    frames = evaluate()
    self.assertLen(frames.summary, 4)
    first = frames.summary[frames.summary["row"] == 0].set_index("temperature")
    self.assertEqual(first["loop_share"].tolist(), [1.0, 0.5])
    self.assertEqual(first["num_loops"].tolist(), [2, 1])
    self.assertEqual(first["loop_period"].tolist(), [2, 2])
    self.assertEqual(first["share_monotone"].tolist(), [1, 1])
    second = frames.summary[frames.summary["row"] == 1].drop(columns=["row", "temperature"])
    self.assertTrue(second.isna().all(axis=None))

    self.assertLen(frames.by_repetition, 2 * 2 * 6)
    rows = frames.by_repetition.set_index(["row", "temperature", "repetition"])
    step = 0.5 / 11
    both, one = rows.loc[0, 0.0], rows.loc[0, 1.0]
    want = 0.1 + step * (2 * np.arange(1, 6) - 0.5)
    np.testing.assert_allclose(both["confidence"], [*(want + 0.1), np.nan], rtol=1e-5)
    np.testing.assert_allclose(one["confidence"], [*want, np.nan], rtol=1e-5)
    np.testing.assert_allclose(both["cohort_confidence"], [*(want[:3] + 0.1), *3 * [np.nan]], rtol=1e-5)
    self.assertEqual(both["num_reaching"].tolist(), [2, 2, 2, 2, 2, 0])
    names = [f"q{100 * level:.0f}" for level in QUANTILES]
    for m in (1, 3):
      np.testing.assert_allclose(both.loc[m, names].astype(float), want[m - 1] + 0.2 * np.array(QUANTILES), rtol=1e-5)
    self.assertTrue(both.loc[[2, 4, 5, 6], names].isna().all(axis=None))


def long_frame() -> pd.DataFrame:
  keys = itertools.product(["clean", "0.1% injected"], [0, 1, 2], [0.0, 1.0], range(1, 7))
  frame = pd.DataFrame(keys, columns=["condition", "seed", "temperature", "repetition"])
  m = frame["repetition"]
  cohort = (0.5 + 0.05 * m + 0.01 * frame["seed"]).where(m <= 5)
  frame = frame.assign(cohort_confidence=cohort, confidence=cohort - 0.1, part="main")
  return frame.assign(**{f"q{q}": cohort.where(m.isin([1, 2, 5])) + q / 1000 for q in (10, 50, 90)})


class ReadingTest(absltest.TestCase):
  def test_figures(self):
    frame = long_frame()
    figure = plotting.confidence_by_repetition(frame)
    self.assertEqual([axes.get_title() for axes in figure.axes], ["T = 0", "T = 1"])
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(lines["clean"].get_ydata()[:5], 0.51 + 0.05 * np.arange(1, 6))
    np.testing.assert_allclose(lines["clean, all loops that get so far"].get_ydata()[:5], 0.41 + 0.05 * np.arange(1, 6))
    (axes, _) = plotting.confidence_quantiles(frame).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    self.assertEqual(lines["clean"].get_xdata().tolist(), [1, 2, 5])
    np.testing.assert_allclose(lines["clean, 90% quantile"].get_ydata(), 0.6 + 0.05 * np.array([1, 2, 5]))

  def test_claims_compare_the_ends_of_the_cohort(self):
    (claim,) = (claim for claim in claims(InjectedLoops()) if claim.name.startswith("confidence"))
    self.assertIn("0.1% injected", claim.condition)
    per_seed = 0.01 * np.arange(3)
    np.testing.assert_allclose(claim.measure(long_frame()), (0.75 + per_seed) / (0.55 + per_seed))
    silent = long_frame().assign(cohort_confidence=np.nan)
    with self.assertRaises(claim_measures.NotRun):
      claim.measure(silent)

  def test_confidence_that_is_predicted(self):
    """A mean over s and r of each repetition: s is sure, r resets with the loop posterior's probability."""
    registered = claims(InjectedLoops(shares=(0.0, 0.5), repetitions=(1, 3)))
    (claim,) = (claim for claim in registered if claim.name.startswith("confidence"))
    after = [x + (1 - x) * 0.3 for x in (0.5, 0.5 / (0.5 + 0.5 * 0.3**2))]
    self.assertAlmostEqual(claim.predicted, (1 + after[1]) / (1 + after[0]))


if __name__ == "__main__":
  absltest.main()
