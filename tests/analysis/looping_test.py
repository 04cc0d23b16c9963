"""How walks loop: locked cycles against `loops.cycles`, and every measure on walks that are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopjax.analysis import looping
from loopjax.generation import cycles, laws
from loopjax.generation.settings import at_temperatures
from loopjax.loops.cycles import locked_cycles
from loopjax.runtime import devices
from loopjax.star_graph import theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law, law_students
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training

SIZE = 20
_IN_CYCLE = jax.jit(cycles.in_cycle)


def covered(walk: list[int]) -> list[bool]:
  """Which nodes lie in locked cycles, by `loops.cycles`; padded to SIZE."""
  is_in = [False] * SIZE
  for cycle in locked_cycles(walk, min_length=0):
    is_in[cycle.start : cycle.end] = [True] * cycle.length
  return is_in


class LockedCycleTest(absltest.TestCase):
  @settings(max_examples=200, deadline=None)
  @given(st.data())
  def test_as_loops_cycles_has_it(self, data):
    block = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    walk = data.draw(st.lists(st.integers(0, 3), max_size=6)) + block * data.draw(st.integers(1, 6))
    walk = (walk + data.draw(st.lists(st.integers(0, 3), max_size=4)))[:SIZE]
    padded = np.full(SIZE, PADDING)
    padded[: len(walk)] = walk
    self.assertEqual(_IN_CYCLE(jnp.asarray(padded)).tolist(), covered(walk))


class MeasuresTest(absltest.TestCase):
  def test_known_walks(self):
    """One walk locks and is cut; one reaches its goal after three of nine nodes; one breaks after two."""
    task = StarGraph(num_chains=2, chain_length=1, max_steps=9)
    ends = [PADDING] * 6
    nodes = jnp.asarray([[[0, 1, 0, 1, 0, 1, 0, 1, 0]], [[0, 1, 2, *ends]], [[0, 1, 4, *ends]]])
    same = jnp.asarray([[[True, False, True]], [[True, True, True]], [[True, True, True]]])
    pairs = jnp.asarray([[[True, True, False]], [[False, False, False]], [[False, False, False]]])
    divergence = jnp.zeros((3, 1, 8)).at[:, :, 1].set(0.6)
    measured = looping.measure_looping(task, nodes, jnp.asarray([[0.0], [1.0], [0.0]]), same, pairs, divergence)
    self.assertAlmostEqual(float(measured.locked_cycle_share[0]), 1 / 3, places=6)
    self.assertAlmostEqual(float(measured.locked[0]), 1 / 3, places=6)
    self.assertAlmostEqual(float(measured.capped_length[0]), (9 + 3 + 9) / 3, places=5)
    self.assertEqual(float(measured.persistence[0]), 0.5)
    self.assertAlmostEqual(float(measured.divergence[0]), 3 * 0.6 / (8 + 2 + 2), places=6)

  def test_the_exact_teacher(self):
    """Its capped length is what theory says, it is at no distance from itself, and at T = 1 nothing is changed."""
    task = StarGraph(num_chains=3, chain_length=1, max_steps=16, explore_prob=0.5)
    students = law_students(Law("teacher", loop_posterior=False), [task], Training(), [0, 1], devices.device_mesh())
    frame = looping.evaluate_looping(students, generation=at_temperatures([0.0, 1.0]), num_graphs=2_000, seed=0)
    warm = frame[frame["temperature"] == 1.0]
    exact = theory.teacher_statistics(task).response_length
    np.testing.assert_allclose(warm["capped_length"], exact, rtol=0.06)  # four standard errors
    np.testing.assert_allclose(warm["divergence"], 0.0, atol=1e-5)
    np.testing.assert_allclose(frame["root_kl"], 0.0, atol=1e-5)
    cold = frame[frame["temperature"] == 0.0]
    self.assertTrue((cold["locked_cycle_share"] == 0).all())
    self.assertTrue((cold["divergence"] > 0.1).all())

  def test_the_memoryless_learner_locks(self):
    """Where the cycle is its argmax it repeats s-r-s for ever at T = 0."""
    task = StarGraph(num_chains=4, chain_length=1, max_steps=16, reset_prob=0.3, explore_prob=0.5)
    students = law_students(Law("memoryless", loop_posterior=False), [task], Training(), [0], devices.device_mesh())
    frame = looping.evaluate_looping(students, generation=at_temperatures([0.0]), num_graphs=16, seed=0)
    row = frame.iloc[0]
    self.assertEqual((row["locked"], row["locked_cycle_share"], row["capped_length"]), (1.0, 1.0, 16.0))
    goal, other = 0.7 * (0.5 + 0.5 / 4), 0.7 * 0.5 / 4
    kl = goal * np.log(goal / 0.175) + 3 * other * np.log(other / 0.175)
    self.assertAlmostEqual(row["root_kl"], kl, places=4)


class DivergenceTest(absltest.TestCase):
  def test_by_hand(self):
    plain = jnp.log(jnp.asarray([0.5, 0.25, 0.25]))
    greedy = jnp.asarray([0.0, -jnp.inf, -jnp.inf])
    self.assertAlmostEqual(float(laws.divergence(greedy, plain)), np.log(2), places=6)
    self.assertEqual(float(laws.divergence(plain + 3.0, plain)), 0.0)
    self.assertEqual(float(laws.divergence(jnp.full(3, -jnp.inf), plain)), 0.0)


if __name__ == "__main__":
  absltest.main()
