"""Tests of `theory.packing`: packed histograms against unpacked ones, exact, simulated, and the sampler's own."""

from __future__ import annotations

import collections
import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.star_graph import teacher, theory
from loopjax.star_graph.streams import first_walk_only, sample_stream, stream_length
from tests.star_graph import brute_force
from tests.star_graph.walk_statistics import TOLERANCE, make_task

TASKS = (
  dict(reset_prob=0.3),
  dict(reset_prob=0.3, goal_hidden=True),
  dict(reset_prob=0.2, explore_prob=0.7, visited_margin=0.3),
  dict(reset_prob=0.0, explore_prob=1.0, goal_margin=0.2),
  dict(reset_prob=0.3, explore_prob=0.5, injected_share=0.1, injected_kind="root"),
  dict(reset_prob=0.3, explore_prob=0.5, injected_share=0.2, injected_kind="cycle", goal_hidden=True),
)


def enumerated_lengths(task):
  """{nodes: probability} by listing every walk and every injected loop."""
  lengths = collections.Counter()
  for goal_chain in range(task.num_chains):
    for walk, probability in brute_force.enumerate_walks(task, goal_chain):
      lengths[len(walk)] += (1 - task.injected_share) * probability / task.num_chains
  lengths[task.max_steps] += task.injected_share
  return lengths


def enumerated_packing(task, lengths, length):
  """The expected number of each position 0..W - 2 in a stream, by following all sequences of walks to its end."""
  goal_entries = int(not task.goal_hidden)

  @functools.cache
  def shown_from(offset):
    counts = np.zeros(task.max_steps - 1)
    for nodes, probability in lengths.items():
      visible = max(min(nodes - 1, length - offset - goal_entries), 0)
      counts[:visible] += probability
      if offset + goal_entries + nodes - 1 < length:
        counts += probability * shown_from(offset + goal_entries + nodes - 1)
    return counts

  return shown_from(0)


def simulated_positions(task, length, rng):
  """How often each position 0..W - 2 stands in one stream, of walks sampled by brute force."""
  entries = []
  while len(entries) < length:
    goal_chain = rng.randrange(task.num_chains)
    if rng.random() < task.injected_share:
      walk = rng.choice(brute_force.injected_loops(task, goal_chain))
    else:
      walk = brute_force.sample_walk(task, goal_chain, rng)
    entries += [None] * (not task.goal_hidden) + list(range(len(walk) - 1))
  return [entries[:length].count(position) for position in range(task.max_steps - 1)]


@functools.partial(jax.jit, static_argnums=(0, 3))
def sampled_positions(task, probabilities, keys, length):
  """How often each position 0..W - 2 is trained in packed streams, and in their first walks alone: two [K, W - 1]."""

  def count(stream):
    return jnp.zeros(task.max_steps).at[stream.position].add(stream.weight)[:-1]  # of weight 0 at position -1

  def one(key):
    stream = sample_stream(task, probabilities, key, length=length)
    return count(stream), count(first_walk_only(stream))

  return jax.vmap(one)(keys)


def tenths(counts):
  """Counts [K, W - 1] summed over ten parts of the walk, [K, 10]."""
  return np.stack([part.sum(axis=-1) for part in np.array_split(counts, 10, axis=-1)], axis=-1)


def share_and_error(counts):
  """The share of each part in all of them, of independent rows [K, P], and its linearised standard error, [P] each."""
  share = counts.sum(axis=0) / counts.sum()
  residuals = counts - share * counts.sum(axis=-1, keepdims=True)
  return share, residuals.std(axis=0, ddof=1) / np.sqrt(len(counts)) / counts.sum(axis=-1).mean()


class WalkLengthsTest(parameterized.TestCase):
  @parameterized.parameters(*TASKS)
  def test_equals_enumeration(self, **settings):
    task = make_task(3, 2, max_steps=11, **settings)
    lengths = enumerated_lengths(task)
    want = [lengths[nodes] for nodes in range(12)]
    np.testing.assert_allclose(theory.walk_lengths(task), want, atol=1e-12)

  @parameterized.parameters(*TASKS)
  def test_sums_to_one_with_the_mean_of_the_statistics(self, **settings):
    task = make_task(5, 3, max_steps=64, **settings)
    lengths = theory.walk_lengths(task)
    np.testing.assert_allclose(lengths.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(lengths @ np.arange(65), theory.teacher_statistics(task).response_length, rtol=1e-12)


class PositionWeightsTest(parameterized.TestCase):
  @parameterized.product(settings=TASKS, spare=(0, 1, 7, 30))
  def test_packed_histogram_is_the_unpacked_one(self, settings, spare):
    task = make_task(3, 2, max_steps=11, **settings)
    length = stream_length(task) + spare
    lengths = enumerated_lengths(task)
    packed = enumerated_packing(task, lengths, length)
    weighted = packed * theory.position_weights(task, length)
    unpacked = np.array([sum(p for nodes, p in lengths.items() if nodes > j + 1) for j in range(10)])
    np.testing.assert_allclose(weighted / weighted.sum(), unpacked / unpacked.sum(), rtol=1e-11)
    np.testing.assert_allclose(weighted.sum(), packed.sum(), rtol=1e-12)

  @parameterized.parameters(*TASKS)
  def test_within_errors_of_simulated_streams(self, **settings):
    task, rng = make_task(3, 2, max_steps=20, **settings), random.Random(3)
    length = stream_length(task) + 5
    counts = np.array([simulated_positions(task, length, rng) for _ in range(800)]) + 0.0
    lengths = theory.walk_lengths(task)
    unpacked = tenths(np.array([[lengths[j + 2 :].sum() for j in range(19)]]))[0]
    share, error = share_and_error(tenths(counts * theory.position_weights(task, length)))
    off = np.abs(share - unpacked / unpacked.sum()) / error
    self.assertLess(off.max(), TOLERANCE)

  @parameterized.parameters(*TASKS)
  def test_weighted_streams_of_the_sampler_are_its_first_walks(self, **settings):
    task = make_task(5, 3, max_steps=64, **settings)
    length = stream_length(task)
    keys = jax.random.split(jax.random.key(5), 6_000)
    counts = sampled_positions(teacher.sizes_of(task), teacher.teacher_probabilities(task), keys, length)
    packed, first = (np.asarray(x, float) for x in counts)
    weighted = packed * theory.position_weights(task, length)
    want, want_error = share_and_error(tenths(first))
    results = {}
    for name, counts in (("weighted", weighted), ("packed", packed)):
      share, error = share_and_error(tenths(counts))
      results[name] = np.abs(share - want) / np.sqrt(error**2 + want_error**2)
    self.assertLess(results["weighted"].max(), TOLERANCE)
    self.assertGreater(results["packed"].max(), 2 * TOLERANCE)  # without weights the stream's end shows
    np.testing.assert_allclose(weighted.sum(), packed.sum(), rtol=0.02)

  def test_late_positions_of_the_published_bases(self):
    """G(5,3) without resets, cut 64: a packed stream shows positions from 40 on half as often as walks have them."""
    task = make_task(5, 3, 0.0, max_steps=64, explore_prob=1.0)
    weights, lengths = theory.position_weights(task, 64), theory.walk_lengths(task)
    unpacked = np.array([lengths[j + 2 :].sum() for j in range(63)])
    packed = unpacked / weights
    np.testing.assert_allclose([x[40:].sum() / x.sum() for x in (unpacked, packed)], [0.1145, 0.0615], atol=5e-5)

  def test_long_streams_need_no_weights(self):
    task = make_task(3, 2, 0.3, max_steps=20)
    np.testing.assert_allclose(theory.position_weights(task, 20_000), 1, atol=2e-3)

  @parameterized.parameters((False, 24), (True, 23))
  def test_longest_walk_must_fit(self, goal_hidden, shortest):
    task = make_task(2, 2, 0.3, max_steps=24, goal_hidden=goal_hidden)
    self.assertLen(theory.position_weights(task, shortest), 23)
    with self.assertRaisesRegex(ValueError, rf"^length={shortest - 1} is not allowed: must be at least {shortest},"):
      theory.position_weights(task, shortest - 1)


if __name__ == "__main__":
  absltest.main()
