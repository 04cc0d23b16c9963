"""Rollouts: against a slow reference without cache, draws by chi-square, ends, chunks, temperatures, processors."""

from __future__ import annotations

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import absltest, parameterized
from jax.sharding import AxisType

from loopjax import decoding, encoding, evaluation, seeds, teacher, transformer
from loopjax.decoding import LogitsProcessor, Rollout
from loopjax.student_functions import Problems
from loopjax.encoding import Row
from loopjax.star_graph import StarGraph
from loopjax.teacher import PADDING
from loopjax.training import TrainState
from loopjax.transformer import Transformer
from tests import brute_force
from tests.transformer_test import random_params

TASK = StarGraph(num_chains=2, chain_length=1, spare_labels=1, max_steps=12)  # one label is on no node
HIDDEN = dataclasses.replace(TASK, encoding="flat", goal_hidden=True)
MODEL = Transformer(num_layers=2, num_heads=2, width=16)
TEMPERATURES = (0.0, 0.7, 2.0)
SEED = 3  # of parameters: half of their greedy walks reach the goal
SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never


def setUpModule():
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes nearly all of the time


def tearDownModule():
  jax.config.update("jax_disable_most_optimizations", False)


@functools.cache
def problems_of(task: StarGraph) -> Problems:
  """24 graphs, one rollout for each of the three temperatures."""
  return jax.jit(lambda key: decoding.sample_problems(task, key, 24, 3))(jax.random.key(1))


@functools.cache
def programs(task: StarGraph, processors: tuple[LogitsProcessor, ...] = ()):
  """Compiled `begin` of a key and `advance` of temperatures, a rollout and a number of steps."""
  problems, params = problems_of(task), random_params(MODEL, task, SEED)
  begin = jax.jit(lambda key: decoding.begin(task, MODEL, params, problems, key, processors))

  @functools.partial(jax.jit, static_argnums=2)
  def advance(temperatures, rollout, num_steps):
    return decoding.advance(
      task, MODEL, params, problems, temperatures, rollout, num_steps=num_steps, processors=processors
    )

  return begin, advance


def roll_out(
  task: StarGraph, temperatures=TEMPERATURES, chunks=(11,), processors: tuple[LogitsProcessor, ...] = ()
) -> Rollout:
  begin, advance = programs(task, processors)
  rollout = begin(jax.random.key(2))
  for num_steps in chunks:
    rollout = advance(jnp.asarray(temperatures)[None], rollout, num_steps)
  return rollout


def assert_same_walks(found: Rollout, expected: Rollout):
  for name in ("nodes", "confidence", "ended"):
    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def assert_same(found: Rollout, expected: Rollout):
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
    if path[0].name == "key":
      np.testing.assert_array_equal(jax.random.key_data(a), jax.random.key_data(b))
    else:
      np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def slow_greedy(task: StarGraph) -> tuple[np.ndarray, np.ndarray]:
  """Greedy walks of the first rollout of each problem, by a full forward pass at every step: nodes, confidence."""
  problems, params = problems_of(task), random_params(MODEL, task, SEED)
  labels, goals = np.asarray(problems.graphs.labels), np.asarray(problems.goal_chain[:, 0])
  num_graphs, num_prompt, length = len(labels), encoding.prompt_length(task), teacher.stream_length(task)
  first = 0 if task.goal_hidden else 1
  tokens = np.full((num_graphs, length, 2), encoding.null_id(task))
  tokens[:, :, 0] = 0
  if first:
    tokens[:, 0, 0] = [labels[g, brute_force.goal_of(task, goals[g])] for g in range(num_graphs)]
    tokens[:, 0, 1] = encoding.goal_id(task)
  tokens[:, first, 0] = labels[:, brute_force.S]
  prompt = jax.vmap(lambda graph: encoding.encode_prompt(task, graph))(problems.graphs)
  zeros = jnp.zeros((num_graphs, 1, length), jnp.int32)
  positions = zeros + num_prompt + np.arange(length)[None, None]

  @jax.jit
  def forward(tokens):
    row = Row(prompt, tokens[:, None], positions, *[zeros] * 4, labels=problems.graphs.labels)
    return transformer.apply(MODEL, task, params, row).logits[:, 0]

  nodes = np.full((num_graphs, task.max_steps), PADDING)
  confidence = np.zeros((num_graphs, task.max_steps))
  nodes[:, 0] = brute_force.S
  walking = np.ones(num_graphs, bool)
  for step in range(task.max_steps - 1):
    logits = np.asarray(forward(jnp.asarray(tokens)), np.float64)[:, first + step]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for g in np.flatnonzero(walking):
      label = int(np.argmax(logits[g]))
      nodes[g, step + 1] = list(labels[g]).index(label) if label in labels[g] else task.num_nodes
      confidence[g, step + 1] = probabilities[g].max()
      walking[g] = nodes[g, step + 1] != brute_force.goal_of(task, goals[g])
      if first + step + 1 < length:
        tokens[g, first + step + 1, 0] = label
  return nodes, confidence


class GreedyTest(parameterized.TestCase):
  @parameterized.named_parameters(("edges_goal_shown", TASK), ("flat_goal_hidden", HIDDEN))
  def test_as_a_full_forward_pass_at_every_step(self, task):
    nodes, confidence = slow_greedy(task)
    rollout = roll_out(task)
    np.testing.assert_array_equal(rollout.nodes[:, 0], nodes)
    difference = np.abs(rollout.confidence[:, 0] - confidence).max()
    print(f"greedy rollouts: max |confidence difference| {difference:.1e}")
    self.assertLess(difference, 1e-5)
    ended = np.any(nodes == PADDING, axis=-1)
    self.assertBetween(ended.sum(), 3, 21)  # some reach their goal, some are cut
    self.assertTrue(np.any(nodes == task.num_nodes))  # and some step off the graph


class SampleTokenTest(parameterized.TestCase):
  @parameterized.parameters(0.3, 1.0, 2.5)
  def test_draws_follow_the_softmax(self, temperature):
    logits, count = np.array([1.0, -0.5, 0.3, 2.0, -2.0, 0.0], np.float32), 20_000
    drawn = decoding.sample_token(jax.random.key(0), jnp.tile(logits[None], (count, 1)), jnp.full(count, temperature))
    expected = np.exp(logits.astype(np.float64) / temperature)
    result = scipy.stats.chisquare(np.bincount(drawn, minlength=6), count * expected / expected.sum())
    print(f"temperature {temperature}: p value {result.pvalue:.3f}")
    self.assertGreater(result.pvalue, SMALLEST_P)

  def test_the_argmax_at_temperature_zero(self):
    logits = jax.random.normal(jax.random.key(0), (50, 7))
    drawn = decoding.sample_token(jax.random.key(1), logits, jnp.zeros(50))
    np.testing.assert_array_equal(drawn, np.argmax(logits, axis=-1))

  def test_every_row_has_a_temperature_and_a_draw_of_its_own(self):
    logits = jnp.zeros((1000, 4)).at[:, 0].set(0.01)
    cold = jnp.arange(1000) % 2 == 0
    drawn = np.asarray(decoding.sample_token(jax.random.key(1), logits, jnp.where(cold, 0.0, 1.0)))
    np.testing.assert_array_equal(drawn[::2], 0)
    self.assertGreater(np.bincount(drawn[1::2], minlength=4).min(), 80)


class RolloutTest(absltest.TestCase):
  def test_a_walk_ends_at_its_goal_and_only_there(self):
    rollout = roll_out(TASK)
    goals = np.asarray(2 + problems_of(TASK).goal_chain)
    reached = 0
    for where in np.ndindex(24, 3):
      nodes, confidence = np.asarray(rollout.nodes[where]), np.asarray(rollout.confidence[where])
      visits = np.flatnonzero(nodes == goals[where])
      end = visits[0] + 1 if len(visits) else TASK.max_steps
      self.assertEqual(nodes[0], brute_force.S)
      self.assertTrue(np.all((nodes[:end] >= 0) & (nodes[:end] <= TASK.num_nodes)))
      np.testing.assert_array_equal(nodes[end:], PADDING)
      self.assertEqual(confidence[0], 0)
      self.assertTrue(np.all(confidence[1:end] >= 1 / TASK.vocabulary_size))
      np.testing.assert_array_equal(confidence[end:], 0)
      self.assertEqual(bool(rollout.ended[where]), len(visits) == 1)
      reached += len(visits)
    self.assertBetween(reached, 10, 62)

  def test_chunks_of_any_size_give_the_same_rollout(self):
    whole = roll_out(TASK)
    self.assertEqual(int(whole.step), TASK.max_steps - 1)
    parts = roll_out(TASK, chunks=(4, 4))
    self.assertEqual(int(parts.step), 8)
    np.testing.assert_array_equal(parts.nodes[..., 9:], PADDING)
    _, advance = programs(TASK)
    # The last chunk runs past the cut.
    assert_same_walks(advance(jnp.asarray(TEMPERATURES)[None], parts, 4), whole)

  def test_steps_past_the_cut_change_no_walk(self):
    whole = roll_out(TASK)
    self.assertFalse(np.all(whole.ended))  # some walks could go on
    _, advance = programs(TASK)
    beyond = whole
    for _ in range(3):
      beyond = advance(jnp.ones((1, 3)), beyond, 4)
      assert_same_walks(beyond, whole)

  def test_temperatures_do_not_disturb_each_other(self):
    together = roll_out(TASK)
    for i, temperature in enumerate(TEMPERATURES):
      apart = roll_out(TASK, temperatures=(temperature,) * 3)
      np.testing.assert_array_equal(apart.nodes[:, i], together.nodes[:, i])
      np.testing.assert_array_equal(apart.confidence[:, i], together.confidence[:, i])
      rollouts_agree = np.array_equal(apart.nodes[:, 0], apart.nodes[:, 1])
      self.assertEqual(rollouts_agree, temperature == 0)  # else each has draws of its own

  def test_problems_share_a_goal_between_temperatures(self):
    problems = problems_of(TASK)
    self.assertEqual(problems.goal_chain.shape, (24, 3))
    np.testing.assert_array_equal(problems.goal_chain, np.tile(problems.goal_chain[:, :1], (1, 3)))
    self.assertEqual(set(np.unique(problems.goal_chain)), {0, 1})
    self.assertGreater(len(np.unique(problems.graphs.labels, axis=0)), 12)


def no_label_twice() -> LogitsProcessor:
  """Forbids what was read before; its state: the labels read [G, R, V] and how many times it was called."""

  def apply(state, logits, labels):
    seen, calls = state
    seen = seen | jax.nn.one_hot(labels, TASK.vocabulary_size, dtype=bool)
    return (seen, calls + 1), jnp.where(seen, -1e9, logits)

  def init(problems):
    return jnp.zeros((*problems.goal_chain.shape, TASK.vocabulary_size), bool), jnp.int32(0)

  return LogitsProcessor(init, apply)


def stateless(change) -> LogitsProcessor:
  return LogitsProcessor(lambda problems: (), lambda state, logits, labels: (state, change(logits)))


LAST_IS_THREE = (stateless(jnp.zeros_like), stateless(lambda logits: logits.at[..., 3].add(1.0)))


class LogitsProcessorTest(absltest.TestCase):
  def test_it_acts_and_its_state_is_carried_between_steps_and_chunks(self):
    rollout = roll_out(TASK, chunks=(4,), processors=(no_label_twice(),))
    seen, calls = rollout.processors[0]
    self.assertEqual(int(calls), 4)
    np.testing.assert_array_equal(np.sum(seen, axis=-1), 4)
    repeats = 0
    plain = np.asarray(roll_out(TASK).nodes[..., :5])
    for where in np.ndindex(24, 3):
      nodes = np.asarray(rollout.nodes[where])
      nodes = nodes[nodes != PADDING]
      self.assertLen(set(nodes), len(nodes))
      repeats += len(plain[where]) - len(set(plain[where]))
    self.assertGreater(repeats, 20)  # without it labels do come twice

  def test_they_act_in_order(self):
    rollout = roll_out(TASK, temperatures=(0.0,) * 3, chunks=(1,), processors=LAST_IS_THREE)
    np.testing.assert_array_equal(rollout.labels, 3)  # the other way round: all logits 0, so label 0

  def test_every_step_has_a_draw_of_its_own(self):
    rollout = roll_out(TASK, temperatures=(1.0,) * 3, chunks=(1,) * 4, processors=LAST_IS_THREE)
    distinct = [len(set(nodes[1:])) for nodes in np.asarray(rollout.nodes).reshape(-1, TASK.max_steps)[:, :5]]
    self.assertGreater(np.mean(np.array(distinct) > 1), 0.9)


class MeshTest(absltest.TestCase):
  def test_rollouts_on_four_devices_are_those_on_one(self):
    base = random_params(dataclasses.replace(MODEL, num_layers=1), TASK)
    scale = np.array([0.5, 1.0, 1.5, 2.0], np.float32)
    params = jax.tree.map(lambda leaf: leaf[None] * scale.reshape((4,) + (1,) * leaf.ndim), base)
    students = TrainState(None, params, None, jax.random.split(jax.random.key(0), 4), None)
    found = []
    for num_devices in (1, 4):
      mesh = jax.make_mesh(
        (num_devices, 1), (seeds.SEED, seeds.DATA), (AxisType.Auto,) * 2, devices=jax.devices()[:num_devices]
      )
      with mock.patch.object(evaluation, "STEPS_PER_CHUNK", 4):
        rollouts = evaluation.roll_out(
          TASK, dataclasses.replace(MODEL, num_layers=1), seeds.place(students, mesh), mesh,
          temperatures=(0.0, 1.0), num_graphs=8, seed=0,
        )  # fmt: skip
      self.assertLen(rollouts.nodes.sharding.device_set, num_devices)
      found.append(seeds.to_host(rollouts, 4))
    self.assertEqual(found[0].nodes.shape, (4, 8, 2, TASK.max_steps))
    jax.tree.map(np.testing.assert_array_equal, found[1], found[0])
    labels = found[0].problems.graphs.labels
    self.assertLen(np.unique(labels.reshape(4, -1), axis=0), 4)  # every student has graphs of its own
    self.assertTrue(np.any(found[0].nodes[..., 9:] != PADDING))  # the last chunk was needed


if __name__ == "__main__":
  absltest.main()
