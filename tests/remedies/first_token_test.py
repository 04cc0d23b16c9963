"""First token of a loop: pairs and losses by hand and in plain Python, signs, the reference."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.loops.cycles import locked_cycles
from loopjax.remedies import first_token, own_walks
from loopjax.remedies.first_token import FirstToken, FirstTokenState, Pairs
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import task_state
from loopjax.training.step import Training
from tests.models.students import random_params
from tests.remedies import cases
from tests.remedies.groups_test import MODEL

TASK = StarGraph(2, 1, max_steps=10, reset_prob=0.3, explore_prob=0.5)
SIZE = 15


def plain_pair(walk, labels, logits, min_p):
  """(place, rejected label, set of chosen labels), or None: the second round is looked through, node by node."""
  cycles = [cycle for cycle in locked_cycles(walk, min_length=0) if cycle.is_tail]
  if not cycles:
    return None
  cycle = min(cycles, key=lambda cycle: cycle.period)
  for after in range(cycle.start + cycle.period, cycle.start + 2 * cycle.period):
    q, taken = cases.softmax(logits[after - 1]), labels[walk[after]]
    chosen = {v for v in range(len(q)) if v != taken and q[v] >= min_p * q[taken]}
    if chosen:
      return after - 1, taken, chosen
  return None


class PairsTest(absltest.TestCase):
  def test_by_hand(self):
    """s r c s r c s r c with labels as nodes: the second round begins at place 3, which is taken at place 2.

    At places 2 and 3 the student is sure, at place 4 it gives r 0.5, c 0.3 and nothing near to the others.
    """
    walk = np.array([[0, 1, 2] * 3])
    logits = np.full((1, 8, 4), -20.0, np.float32)
    for place in range(8):
      logits[0, place, walk[0, place + 1]] = 0.0
    logits[0, 4, :4] = np.log([0.05, 0.15, 0.5, 0.3])
    pairs = cases.jit(first_token.find_pairs)(walk, walk[:, 1:], logits, jnp.float32(0.25))
    self.assertTrue(pairs.exists[0])
    self.assertEqual(pairs.place[0], 4)
    np.testing.assert_array_equal(pairs.rejected[0], [False, False, True, False])
    np.testing.assert_array_equal(pairs.chosen[0], [False, True, False, True])

  def test_plain_python(self):
    rng = np.random.default_rng(0)
    blocks = [rng.integers(3, size=rng.integers(1, 6)) for _ in range(60)]
    walks = np.stack([np.concatenate([rng.integers(3, size=4), np.tile(block, SIZE)])[:SIZE] for block in blocks])
    labels = np.array([2, 0, 3])
    logits = (3 * rng.normal(size=(60, SIZE - 1, 4))).astype(np.float32)
    found = cases.jit(first_token.find_pairs)(walks, labels[walks[:, 1:]], logits, jnp.float32(0.3))
    number = 0
    for row in range(60):
      expected = plain_pair(walks[row].tolist(), labels, logits[row], 0.3)
      self.assertEqual(bool(found.exists[row]), expected is not None)
      if expected is not None:
        got = found.place[row], np.flatnonzero(found.rejected[row])[0], set(np.flatnonzero(found.chosen[row]))
        self.assertEqual(got, expected)
        number += 1
    self.assertBetween(number, 20, 59)


# Label 0 is rejected; 1 and 2 are chosen; 3 and 4 are others.
PAIRS = Pairs(np.array([True]), np.array([0]), np.arange(5)[None] == 0, np.isin(np.arange(5)[None], (1, 2)))


class LossTest(absltest.TestCase):
  def test_by_hand(self):
    """Margin 2. Label 1 is 1 behind: w = clip(3/2) = 1 and softplus(3). Label 2 is 1 ahead: w = 1/2 and softplus(1)."""
    logits = jnp.array([[1.0, 0.0, 2.0, 5.0, -5.0]])
    softplus = lambda x: math.log(1 + math.exp(x))
    expected = (softplus(3) + 0.5 * softplus(1)) / 2
    np.testing.assert_allclose(first_token.preference(logits, PAIRS, jnp.float32(2.0)), [expected], rtol=1e-6)
    # Others change by 1 and 3; of the pair, label 0 by 2 and label 2 by 0.5: 1 beyond what is free, and nothing.
    reference = logits + jnp.array([[2.0, 0.0, 0.5, 1.0, -3.0]])
    state = FirstTokenState(*map(jnp.float32, (1, 2, 0.1, 0.4, 0.05)))
    expected = 0.4 * (1 + 9) / 2 + 0.05 * 1 / 3
    np.testing.assert_allclose(first_token.tethering(logits, reference, PAIRS, state), [expected], rtol=1e-6)

  def test_the_rejected_label_falls_the_chosen_rise_and_nothing_moves_past_the_margin(self):
    pull = jax.grad(lambda x: first_token.preference(x, PAIRS, jnp.float32(2.0))[0])
    of_pair = np.asarray(pull(jnp.array([[1.0, 0.0, 2.0, 5.0, -5.0]])))[0]
    self.assertGreater(of_pair[0], 0)
    self.assertTrue((of_pair[1:3] < 0).all())
    np.testing.assert_array_equal(of_pair[3:], 0)
    np.testing.assert_array_equal(pull(jnp.array([[0.0, 2.0, 9.0, 5.0, -5.0]])), 0)

  def test_a_tether_pulls_back(self):
    reference, logits = jnp.zeros((1, 5)), jnp.array([[3.0, -3.0, 0.5, 0.5, -2.0]])
    state = FirstTokenState(*map(jnp.float32, (1, 2, 0.1, 0.4, 0.05)))
    pull = jax.grad(lambda x: first_token.tethering(x, reference, PAIRS, state)[0])(logits)
    np.testing.assert_array_equal(np.sign(pull), [[1, -1, 0, 1, -1]])


class OwnWalksTest(absltest.TestCase):
  def test_greedy_walks_take_the_likeliest_label_of_what_is_read(self):
    params = random_params(MODEL, TASK)
    keys = jax.random.split(jax.random.key(1), 12)
    state = task_state(TASK, Training())

    def walk_and_read(keys):
      problems = jax.vmap(lambda key: own_walks.sample_problem(TASK, key, state))(keys)
      walks = own_walks.greedy_walks(TASK, MODEL, params, problems)
      return problems.graph.labels, walks, own_walks.read(TASK, MODEL, params, problems, walks)

    labels, walks, logits = (np.asarray(part) for part in cases.jit(walk_and_read)(keys))
    steps = 0
    for row in range(12):
      for place in range(TASK.max_steps - 1):
        after = walks[row, place + 1]
        if 0 <= after < TASK.num_nodes:
          self.assertEqual(labels[row, after], np.argmax(logits[row, place]))
          steps += 1
    self.assertGreater(steps, 12)

  def test_the_reference_is_the_student_that_was(self):
    objective = FirstToken().build(TASK, MODEL, Training())
    params = random_params(MODEL, TASK)
    extra = objective.begin(params, FirstToken(0.5).init(jax.random.key(0), TASK, Training()))
    self.assertEqual(extra.pair_weight, 0.5)
    for found, expected in zip(jax.tree.leaves(extra.reference), jax.tree.leaves(params), strict=True):
      np.testing.assert_array_equal(found, expected)

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.tether=-1 .* at least 0$"):
      FirstToken(tether=-1)
    with self.assertRaisesRegex(ValueError, r"^objective\.margin=0 .* above 0$"):
      FirstToken(margin=0)
    with self.assertRaisesRegex(ValueError, r"^objective\.min_p=0 .* in \(0, 1\]$"):
      FirstToken(min_p=0)


if __name__ == "__main__":
  absltest.main()
