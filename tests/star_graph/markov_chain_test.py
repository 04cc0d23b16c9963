"""Tests of `theory.markov_chain`: against full enumeration, brute force, closed forms and the sampler."""

from __future__ import annotations

import dataclasses
import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import teacher, theory
from loopjax.star_graph.graph import START
from loopjax.star_graph.streams import sample_walk
from tests.compiling import jit_fast
from tests.star_graph import brute_force
from tests.star_graph.walk_statistics import WalkStatisticsTestCase, enumerated_statistics, make_task

MARGINS = (
  dict(),
  dict(explore_prob=0.5),
  dict(explore_prob=1.0),
  dict(explore_prob=0.7, visited_margin=0.15),
  dict(explore_prob=0.7, visited_margin=0.6),
  dict(explore_prob=0.8, goal_margin=0.2),
)


@functools.cache
def jitted_sampler(num_chains, chain_length, max_steps, injected_kind):
  """Sums over 4,096 teacher walks of success, loops, length and their squares, [2, 3]; probabilities are traced."""
  task = make_task(num_chains, chain_length, 0.0, max_steps, injected_kind=injected_kind)

  def measure(probabilities, key):
    walk, goal_chain = sample_walk(task, probabilities, key)
    success = jnp.any(walk == task.goal_node(goal_chain))
    return jnp.stack([success, jnp.sum(walk == START) - 1, jnp.sum(walk >= 0)]).astype(jnp.float32)

  def chunk(probabilities, key):
    values = jax.vmap(measure, in_axes=(None, 0))(probabilities, jax.random.split(key, 4096))
    return jnp.stack([jnp.sum(values, axis=0), jnp.sum(values**2, axis=0)])

  return jit_fast(chunk)  # a hundred thousand walks


class TeacherChainTest(WalkStatisticsTestCase):
  @parameterized.product(
    sizes=((1, 2, 9), (2, 1, 9), (3, 1, 10), (3, 2, 9)),
    settings=MARGINS,
    temperature=(1.0, 0.6, 0.0),
  )
  def test_equals_enumeration(self, sizes, settings, temperature):
    n, chain_length, max_steps = sizes
    if n == 1 and "goal_margin" in settings:
      settings = dict(explore_prob=0.8)  # one child leaves no room for a margin
    task = make_task(n, chain_length, 0.3, max_steps, **settings)
    want = enumerated_statistics(task, brute_force.teacher_at(temperature))
    self.assert_same_statistics(theory.teacher_statistics(task, temperature=temperature), want)

  @parameterized.product(kind=("root", "child", "cycle"), sizes=((3, 1, 10), (2, 2, 9), (2, 3, 9)), share=(0.2, 1.0))
  def test_equals_enumeration_with_injected_loops(self, kind, sizes, share):
    n, chain_length, max_steps = sizes
    task = make_task(n, chain_length, 0.3, max_steps, explore_prob=0.5, injected_share=share, injected_kind=kind)
    want = enumerated_statistics(task, brute_force.teacher_distribution)
    self.assert_same_statistics(theory.teacher_statistics(task), want)

  def test_learners_are_of_the_clean_teacher(self):
    task = make_task(2, 2, 0.3, injected_share=0.1)
    for learner in (theory.memoryless_statistics, functools.partial(theory.bayes_statistics, num_walks=2)):
      with self.assertRaisesRegex(ValueError, r"^task\.injected_share=0\.1 .* 0 for a theoretical learner$"):
        learner(task)

  @parameterized.parameters(0.25, 4.0)
  def test_equals_enumeration_where_the_margin_is_saturated(self, temperature):
    """Visited children have probability 0: no temperature may bring them back."""
    task = make_task(3, 1, 0.2, 11, explore_prob=1.0, visited_margin=5.0)
    got = theory.teacher_statistics(task, temperature=temperature)
    self.assert_same_statistics(got, enumerated_statistics(task, brute_force.teacher_at(temperature)))
    self.assertLess(got.revisits, 0.01)  # none before all three are visited, and then the walk is over
    widest = dataclasses.replace(task, visited_margin=0.0, goal_margin=2 / 3)
    got = theory.teacher_statistics(widest, temperature=temperature)
    self.assert_same_statistics(got, enumerated_statistics(widest, brute_force.teacher_at(temperature)))

  @parameterized.parameters(
    dict(num_chains=5, chain_length=3, reset_prob=0.3, explore_prob=0.5, max_steps=64),
    dict(num_chains=4, chain_length=2, reset_prob=0.2, explore_prob=1.0, visited_margin=0.1, max_steps=40),
    dict(num_chains=3, chain_length=4, reset_prob=0.25, explore_prob=0.9, goal_margin=0.3, max_steps=50),
    dict(num_chains=6, chain_length=1, reset_prob=0.5, explore_prob=0.9, visited_margin=0.3, max_steps=20),
    dict(num_chains=4, chain_length=2, reset_prob=0.4, explore_prob=0.8, max_steps=30, temperature=0.7),
  )
  def test_within_errors_of_brute_force(self, temperature=1.0, **settings):
    task, rng, num_walks = make_task(**settings), random.Random(7), 2500
    measures = []
    for _ in range(num_walks):
      goal_chain = rng.randrange(task.num_chains)
      walk = brute_force.sample_walk(task, goal_chain, rng, brute_force.teacher_at(temperature))
      measures.append(brute_force.measure_walk(task, walk, goal_chain)[:6])
    values = np.array(measures, float)
    successful = values[values[:, 0] == 1]
    exact = dataclasses.astuple(theory.teacher_statistics(task, temperature=temperature))
    for i, sample in enumerate([*values.T, successful[:, 2], successful[:, 1]]):
      self.assertGreater(sample.std(), 0)
      label = dataclasses.fields(theory.WalkStatistics)[i].name
      self.assert_within_errors(sample.mean(), exact[i], sample.std(ddof=1) / np.sqrt(len(sample)), label)

  @parameterized.parameters(
    dict(num_chains=5, chain_length=3, reset_prob=0.3),
    dict(num_chains=5, chain_length=3, reset_prob=0.3, explore_prob=0.5),
    dict(num_chains=5, chain_length=3, reset_prob=0.0, explore_prob=1.0),
    dict(num_chains=5, chain_length=3, reset_prob=0.0, explore_prob=1.0, visited_margin=0.1),
    dict(num_chains=5, chain_length=3, reset_prob=0.3, explore_prob=0.5, visited_margin=0.4),
    dict(num_chains=5, chain_length=3, reset_prob=0.3, explore_prob=0.7, goal_margin=0.3),
    dict(num_chains=5, chain_length=3, reset_prob=0.6, explore_prob=0.9, visited_margin=0.15),
    dict(num_chains=3, chain_length=5, reset_prob=0.2, explore_prob=1.0, visited_margin=0.25),
    dict(num_chains=3, chain_length=5, reset_prob=0.4, explore_prob=0.5),
    dict(num_chains=3, chain_length=5, reset_prob=0.1, explore_prob=1.0, goal_margin=0.1),
    dict(num_chains=8, chain_length=1, reset_prob=0.3, explore_prob=1.0, visited_margin=0.05),
    dict(num_chains=8, chain_length=1, reset_prob=0.7, explore_prob=1.0, visited_margin=0.3),
    dict(num_chains=8, chain_length=1, reset_prob=0.5, explore_prob=0.95, goal_margin=0.02),
    dict(num_chains=1, chain_length=4, reset_prob=0.3, explore_prob=1.0),
    dict(num_chains=5, chain_length=3, reset_prob=0.0, explore_prob=1.0, injected_share=0.3),
    dict(num_chains=5, chain_length=3, reset_prob=0.3, explore_prob=0.5, injected_share=0.01, injected_kind="cycle"),
    dict(num_chains=8, chain_length=1, reset_prob=0.3, explore_prob=1.0, injected_share=0.1, injected_kind="child"),
  )
  def test_sampler_agrees(self, num_chains, chain_length, **settings):
    """100,000 walks of `streams.sample_walk` against the chain."""
    task = make_task(num_chains, chain_length, max_steps=64, **settings)
    sampler = jitted_sampler(num_chains, chain_length, 64, task.injected_kind)
    keys = jax.random.split(jax.random.key(11), 25)
    sums = sum(np.asarray(sampler(teacher.teacher_probabilities(task), key), np.float64) for key in keys)
    num_walks = 4096 * len(keys)
    means, squares = sums / num_walks
    errors = np.sqrt((squares - means**2) / num_walks)
    exact = theory.teacher_statistics(task)
    # The exact error of a proportion: the sampled one is 0 where no walk happened to fail.
    errors[0] = np.sqrt(max(exact.reached * (1 - exact.reached), 0) / num_walks)
    for i, name in enumerate(("reached", "returns", "response_length")):
      self.assert_within_errors(means[i], getattr(exact, name), errors[i], name)

  def test_first_attempt_succeeds_with_its_closed_form(self):
    """Without exploration an attempt needs l forward moves; cut before a second attempt could end."""
    for chain_length in (1, 3, 6):
      task = make_task(4, chain_length, 0.3, max_steps=chain_length + 2)
      reached = theory.teacher_statistics(task).reached
      np.testing.assert_allclose(reached, 0.7**chain_length, rtol=1e-12)

  def test_attempts_without_a_cut(self):
    """Attempts succeed independently with q = (1 - reset)^l: their number is geometric, the length is Wald's."""
    reset_prob, chain_length = 0.3, 3
    task = make_task(4, chain_length, reset_prob, max_steps=1000)
    statistics = theory.teacher_statistics(task)
    attempt = 2 + sum((1 - reset_prob) ** j for j in range(1, chain_length + 1))  # s, r and the chain nodes reached
    q = (1 - reset_prob) ** chain_length
    np.testing.assert_allclose(statistics.reached, 1, rtol=1e-10)
    np.testing.assert_allclose(statistics.returns, 1 / q - 1, rtol=1e-9)
    np.testing.assert_allclose(statistics.response_length, attempt / q, rtol=1e-9)
    # Each attempt but the last enters the child with the probability of an entry given a failure.
    entries = 1 + (1 / q - 1) * ((1 - reset_prob) - q) / (1 - q)
    np.testing.assert_allclose(statistics.distinct_children + statistics.revisits, entries, rtol=1e-9)

  def test_one_chain_no_reset(self):
    statistics = theory.teacher_statistics(make_task(1, 4, 0.0))
    self.assertEqual(dataclasses.astuple(statistics), (1, 0, 6, 0, 1, 0, 6, 0))

  def test_search_without_hardness(self):
    """Uniform exploration draws children with, a saturated margin without replacement."""
    n, chain_length = 6, 2
    task = make_task(n, chain_length, 0.0, max_steps=1000, explore_prob=1.0)
    uniform = theory.teacher_statistics(task)
    no_return = theory.teacher_statistics(dataclasses.replace(task, visited_margin=n))
    np.testing.assert_allclose(uniform.returns, n - 1, rtol=1e-9)
    np.testing.assert_allclose(uniform.response_length, n * (chain_length + 2), rtol=1e-9)
    np.testing.assert_allclose(no_return.returns, (n - 1) / 2, rtol=1e-12)
    np.testing.assert_allclose(no_return.distinct_children, (n + 1) / 2, rtol=1e-12)
    self.assertEqual(no_return.revisits, 0)

  def test_rounding_does_not_bring_visited_children_back(self):
    """49 * (1 / 49) < 1 in float64; at a high temperature what is left would count."""
    task = make_task(50, 1, 0.0, 100, explore_prob=1.0, visited_margin=50.0)
    self.assertEqual(theory.teacher_statistics(task, temperature=3.0).revisits, 0)

  @parameterized.parameters({"reset_prob": 0.45}, {"reset_prob": 0.3, "visited_margin": 0.0, "explore_prob": 1.0})
  def test_cold_tends_to_greedy(self, **settings):
    task = make_task(2, 2, max_steps=30, **{"explore_prob": 0.1, "visited_margin": 1.0, **settings})
    cold, greedy = (theory.teacher_statistics(task, temperature=t) for t in (1e-3, 0.0))
    self.assert_same_statistics(cold, greedy, rtol=1e-9)

  def test_root_loops_alone(self):
    """l = 1, n = 1: a walk is j root loops, then s, r, goal: 2 j + 1 of its 2 j + 3 nodes are covered."""
    reset_prob, max_steps = 0.6, 12
    task = make_task(1, 1, reset_prob, max_steps=max_steps)
    ended = [(j, (1 - reset_prob) * reset_prob**j) for j in range(5)]  # 2 j + 3 <= 12
    # A cut walk has 5 root loops and is cut at the r that follows.
    want = sum(p * (2 * j + 1) / (2 * j + 3) for j, p in ended if j > 0) + reset_prob**5 * 11 / 12
    np.testing.assert_allclose(theory.teacher_statistics(task).root_loop_share, want, rtol=1e-12)

  def test_bad_temperature(self):
    for temperature in (-0.5, float("inf"), float("nan")):
      with self.assertRaisesRegex(ValueError, "temperature"):
        theory.teacher_statistics(make_task(2, 2, 0.3), temperature=temperature)

  def test_transition_matrix(self):
    """Rows sum to 1, or to 0 where walks end; gains are only where transitions are."""
    task = make_task(4, 3, 0.3, explore_prob=0.6, visited_margin=0.1)
    chain = theory.markov_chain(task)
    np.testing.assert_allclose(chain.transition.sum(axis=1), np.where(chain.at_goal, 0, 1), atol=1e-12)
    self.assertLen(set(chain.states), len(chain.states))
    # s and r: covered or not; with the goal's child visited, j = 1..l of either chain; without, only the wrong chains.
    visits = {(x.wrong_visited, x.goal_visited) for x in chain.states}
    self.assertLen(visits, 8)
    self.assertLen(chain.states, 8 * 2 * 2 + 4 * 3 + 2 * 3 * 3)

  @parameterized.parameters(0.0, 1e-4)
  def test_a_kind_without_children_has_no_say(self, temperature):
    """n = 1 has no wrong child, so what a policy says of one must not decide the argmax."""
    chain = theory.markov_chain(make_task(1, 2, 0.3), lambda *_: [0.1, 0.2, 0.9, 0.9], temperature)
    self.assertEqual({state.place for state in chain.states}, {"start", "root", "goal"})
    np.testing.assert_allclose(chain.transition.sum(axis=1), np.where(chain.at_goal, 0, 1), atol=1e-12)


class MemorylessTest(WalkStatisticsTestCase):
  @parameterized.product(temperature=(1.0, 0.5, 0.0), sizes=((1, 2, 9), (2, 2, 10), (3, 1, 9)), reset_prob=(0.2, 0.55))
  def test_equals_enumeration(self, temperature, sizes, reset_prob):
    n, chain_length, max_steps = sizes
    task = make_task(n, chain_length, reset_prob, max_steps, explore_prob=0.5, visited_margin=0.3)
    want = enumerated_statistics(task, brute_force.memoryless_at(temperature))
    self.assert_same_statistics(theory.memoryless_statistics(task, temperature=temperature), want)

  @parameterized.product(max_steps=(20, 21), ties=("fresh", "frozen"))
  def test_above_the_line_greedy_repeats_for_ever(self, max_steps, ties):
    task = make_task(3, 2, 0.3, max_steps)  # 0.3 > 1/4
    statistics = theory.memoryless_statistics(task, temperature=0.0, ties=ties)
    share = 1 if max_steps % 2 else (max_steps - 1) / max_steps  # a last r is in no window
    self.assertEqual(dataclasses.astuple(statistics)[:6], (0, (max_steps - 1) // 2, max_steps, share, 0, 0))
    self.assertTrue(np.isnan(statistics.successful_length))
    self.assertTrue(np.isnan(statistics.successful_returns))

  def test_below_the_line_frozen_ties_decide_everything(self):
    """The one child it keeps to is the goal's with 1/n; else it walks the same wrong chain until the cut."""
    n, chain_length, rounds = 3, 2, 5
    task = make_task(n, chain_length, 0.2, rounds * (chain_length + 2))
    statistics = theory.memoryless_statistics(task, temperature=0.0, ties="frozen")
    want = theory.WalkStatistics(
      reached=1 / n,
      returns=(1 - 1 / n) * (rounds - 1),
      response_length=(chain_length + 2) * (1 / n + (1 - 1 / n) * rounds),
      root_loop_share=0,
      distinct_children=1,
      revisits=(1 - 1 / n) * (rounds - 1),
      successful_length=chain_length + 2,
      successful_returns=0,
    )
    self.assert_same_statistics(statistics, want)

  def test_below_the_line_fresh_ties_search_on(self):
    n, chain_length, rounds = 3, 2, 5
    task = make_task(n, chain_length, 0.2, rounds * (chain_length + 2))
    statistics = theory.memoryless_statistics(task, temperature=0.0, ties="fresh")
    np.testing.assert_allclose(statistics.reached, 1 - (1 - 1 / n) ** rounds, rtol=1e-12)
    # Round t is played if none before it succeeded.
    played = [(1 - 1 / n) ** t for t in range(rounds)]
    np.testing.assert_allclose(statistics.response_length, (chain_length + 2) * sum(played), rtol=1e-12)
    np.testing.assert_allclose(statistics.distinct_children + statistics.revisits, sum(played), rtol=1e-12)

  def test_on_the_line_the_cycle_is_one_of_the_tied(self):
    """p = 1/(n + 1): frozen for ever on the cycle or on one of n children, each as likely."""
    n = 4
    statistics = theory.memoryless_statistics(make_task(n, 1, 1 / (n + 1), 30), temperature=0.0, ties="frozen")
    np.testing.assert_allclose(statistics.reached, 1 / (n + 1), rtol=1e-12)
    np.testing.assert_allclose(statistics.distinct_children, n / (n + 1), rtol=1e-12)

  def test_is_the_teacher_of_mechanism_two(self):
    """Uniform exploration with nothing to know is forgetful itself."""
    task = make_task(5, 3, 0.2, 64, explore_prob=1.0)
    self.assert_same_statistics(theory.memoryless_statistics(task), theory.teacher_statistics(task))

  def test_bad_arguments(self):
    task = make_task(2, 2, 0.3)
    for arguments in (dict(ties="other"), dict(temperature=-1.0), dict(temperature=1.0, ties="frozen")):
      with self.assertRaisesRegex(ValueError, "is not allowed"):
        theory.memoryless_statistics(task, **arguments)


if __name__ == "__main__":
  absltest.main()
