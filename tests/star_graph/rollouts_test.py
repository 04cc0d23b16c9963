"""Rollouts: against a slow reference without cache, draws by chi-square, ends, chunks, temperatures, processors.

A random network leaves the graph at once, so that long walks are those whose invalid moves are masked.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.stats
from absl.testing import absltest, parameterized
from jax.sharding import AxisType

from loopjax.generation import generate
from loopjax.generation.processors import Processor
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import Generation, at_temperatures
from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import encoding, evaluation, rollouts, student_functions, teacher
from loopjax.star_graph import walks as walk_measures
from loopjax.star_graph.encoding import Row
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, task_state
from loopjax.star_graph.rollouts import Asked, LegalMoves, Rollout, sample_problems
from loopjax.star_graph.streams import stream_length
from loopjax.star_graph.student_functions import Problems, Student
from loopjax.star_graph.students import Students
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training, TrainState
from tests.models.students import random_params
from tests.star_graph import brute_force

TASK = StarGraph(num_chains=2, chain_length=1, spare_labels=1, max_steps=12)  # one label is on no node
HIDDEN = dataclasses.replace(TASK, encoding="flat", goal_hidden=True)
MODEL = Transformer(num_layers=2, num_heads=2, width=16)
TEMPERATURES = (0.0, 0.7, 2.0)
SEED = 3  # of parameters: half of their greedy walks reach the goal
SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never


@functools.cache
def problems_of(task: StarGraph) -> Problems:
  """24 graphs, one rollout for each of the three temperatures."""
  return jax.jit(lambda key: sample_problems(task, key, 24, 3))(jax.random.key(1))


class Programs(NamedTuple):
  begin: Callable[..., Any]
  advance: Callable[..., Any]
  finish: Callable[..., Any]


@functools.cache
def compiled(task: StarGraph, processors: tuple[Processor, ...], model: Transformer) -> Programs:
  """`Programs` whose first argument is the columns, where strengths count: one for all temperatures."""
  problems, params = problems_of(task), random_params(model, task, SEED)
  probabilities, student = teacher.teacher_probabilities(task), student_functions.functions_of(model, task)

  def asked(columns):
    return Asked(task, student, params, probabilities, problems, processors, columns)

  return Programs(
    jax.jit(lambda columns, key: rollouts.begin(asked(columns), key)),
    jax.jit(lambda columns, begun, num_steps: rollouts.advance(asked(columns), begun, num_steps=num_steps)),
    jax.jit(lambda continuations: rollouts.finish(task, probabilities, problems, continuations)),
  )


def programs(task: StarGraph, generation: Generation, model: Transformer = MODEL) -> Programs:
  """Compiled `begin` of a key, `advance` of continuations and a number of steps, `finish` of continuations."""
  begin, advance, finish = compiled(task, generation.processors, model)
  columns = generation.traced()
  return Programs(functools.partial(begin, columns), functools.partial(advance, columns), finish)


def continued(task: StarGraph, generation: Generation, chunks=(11,), model: Transformer = MODEL):
  """Continuations, before they are read as walks."""
  of_task = programs(task, generation, model)
  continuations = of_task.begin(jax.random.key(2))
  for num_steps in chunks:
    continuations = of_task.advance(continuations, num_steps)
  return continuations


def roll_out(
  task: StarGraph, temperatures=TEMPERATURES, chunks=(11,), processors=(), model: Transformer = MODEL
) -> Rollout:
  generation = at_temperatures(temperatures, *processors)
  return programs(task, generation, model).finish(continued(task, generation, chunks, model))


def legal_roll_out(task: StarGraph, **settings) -> Rollout:
  return roll_out(task, processors=(LegalMoves(task),), **settings)


def assert_same_walks(found: Rollout, expected: Rollout):
  for name in Rollout._fields:
    np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


class SlowWalks(NamedTuple):
  """As the fields of `Rollout`, of the first rollout of each problem."""

  nodes: np.ndarray
  confidence: np.ndarray
  child_logits: np.ndarray


def slow_greedy(task: StarGraph, is_legal: bool) -> SlowWalks:
  """Greedy walks, by a full forward pass at every step; if `is_legal`, among the valid moves alone."""
  problems, params = problems_of(task), random_params(MODEL, task, SEED)
  labels, goals = np.asarray(problems.graphs.labels), np.asarray(problems.goal_chain[:, 0])
  num_graphs, num_prompt, length = len(labels), encoding.prompt_length(task), stream_length(task)
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
  child_logits = np.zeros((num_graphs, task.max_steps - 1, task.num_chains))
  nodes[:, 0] = brute_force.S
  walking = np.ones(num_graphs, bool)
  for step in range(task.max_steps - 1):
    logits = np.asarray(forward(jnp.asarray(tokens)), np.float64)[:, first + step]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for g in np.flatnonzero(walking):
      valid = brute_force.valid_successors(task, nodes[g, step])
      allowed = [labels[g, node] for node in valid] if is_legal else range(task.vocabulary_size)
      label = max(allowed, key=lambda label, g=g: logits[g, label])
      nodes[g, step + 1] = list(labels[g]).index(label) if label in labels[g] else task.num_nodes
      confidence[g, step + 1] = probabilities[g].max()
      child_logits[g, step] = [logits[g, labels[g, kid]] for kid in brute_force.children_of_root(task)]
      is_goal = nodes[g, step + 1] == brute_force.goal_of(task, goals[g])
      walking[g] = not is_goal and nodes[g, step + 1] in valid
      if first + step + 1 < length:
        tokens[g, first + step + 1, 0] = label
  return SlowWalks(nodes, confidence, child_logits)


class GreedyTest(parameterized.TestCase):
  @parameterized.product(task=(TASK, HIDDEN), is_legal=(True, False))
  def test_as_a_full_forward_pass_at_every_step(self, task, is_legal):
    expected = slow_greedy(task, is_legal)
    rollout = legal_roll_out(task) if is_legal else roll_out(task)
    np.testing.assert_array_equal(rollout.nodes[:, 0], expected.nodes)
    for name in ("confidence", "child_logits"):
      difference = np.abs(getattr(rollout, name)[:, 0] - getattr(expected, name)).max()
      print(f"greedy rollouts: max |{name} difference| {difference:.1e}")
      self.assertLess(difference, 1e-5)
    if is_legal:
      ended = np.any(expected.nodes == PADDING, axis=-1)
      self.assertBetween(ended.sum(), 3, 21)  # some reach their goal, some are cut
    else:
      self.assertTrue(np.any(expected.nodes == task.num_nodes))  # some step off the graph
      self.assertTrue(np.all(expected.nodes[:, 6:] == PADDING))  # and all are broken soon


def drawn_at(keys: jax.Array, logits: jax.Array, temperatures: jax.Array) -> np.ndarray:
  """Tokens [G, R] drawn from logits [G, R, V] at temperatures [R]."""
  _, heated = Temperature().apply(temperatures, (), logits, None)
  return np.asarray(generate.draw(keys, heated))


class DrawTest(parameterized.TestCase):
  @parameterized.parameters(0.3, 1.0, 2.5)
  def test_draws_follow_the_softmax(self, temperature):
    logits, count = np.array([1.0, -0.5, 0.3, 2.0, -2.0, 0.0], np.float32), 20_000
    everywhere, keys = jnp.tile(logits[None, None], (count, 1, 1)), jax.random.split(jax.random.key(0), 1)
    drawn = drawn_at(keys, everywhere, jnp.array([temperature]))[:, 0]
    expected = np.exp(logits.astype(np.float64) / temperature)
    result = scipy.stats.chisquare(np.bincount(drawn, minlength=6), count * expected / expected.sum())
    print(f"temperature {temperature}: p value {result.pvalue:.3f}")
    self.assertGreater(result.pvalue, SMALLEST_P)

  def test_the_argmax_at_temperature_zero(self):
    logits = jax.random.normal(jax.random.key(0), (10, 5, 7))
    drawn = drawn_at(jax.random.split(jax.random.key(1), 5), logits, jnp.zeros(5))
    np.testing.assert_array_equal(drawn, np.argmax(logits, axis=-1))

  def test_every_graph_and_column_has_a_draw_of_its_own_and_every_column_a_temperature(self):
    logits = jnp.zeros((500, 3, 4)).at[..., 0].set(0.01)
    keys = jax.random.split(jax.random.key(1), 3)
    drawn = drawn_at(keys, logits, jnp.array([0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(drawn[:, 0], 0)
    for column in (1, 2):
      self.assertGreater(np.bincount(drawn[:, column], minlength=4).min(), 80)
    self.assertAlmostEqual(np.mean(drawn[:, 1] == drawn[:, 2]), 1 / 4, delta=0.08)


class RolloutTest(parameterized.TestCase):
  @parameterized.parameters(True, False)
  def test_a_walk_ends_at_its_goal_or_its_first_invalid_move_and_only_there(self, is_legal):
    rollout = legal_roll_out(TASK) if is_legal else roll_out(TASK)
    goals = np.asarray(problems_of(TASK).goal_chain)
    outcomes = collections.Counter()
    for where in np.ndindex(24, 3):
      nodes, confidence = np.asarray(rollout.nodes[where]).tolist(), np.asarray(rollout.confidence[where])
      outcome, end = outcome_of(TASK, nodes, goals[where])
      self.assertEqual(nodes[0], brute_force.S)
      self.assertTrue(all(0 <= node <= TASK.num_nodes for node in nodes[:end]))
      self.assertEqual(set(nodes[end:]) - {PADDING}, set())
      self.assertEqual(confidence[0], 0)
      self.assertTrue(np.all(confidence[1:end] >= 1 / TASK.vocabulary_size))
      np.testing.assert_array_equal(confidence[end:], 0)
      self.assertTrue(np.all(np.any(rollout.child_logits[where][: end - 1] != 0, axis=-1)))
      np.testing.assert_array_equal(rollout.child_logits[where][end - 1 :], 0)
      outcomes[outcome] += 1
    print(f"legal={is_legal}: {dict(outcomes)}")
    if is_legal:
      self.assertEqual(outcomes["broken"], 0)
      self.assertBetween(outcomes["reached"], 10, 62)
    else:
      self.assertGreater(outcomes["broken"], 40)

  def test_chunks_of_any_size_give_the_same_rollout(self):
    legal = at_temperatures(TEMPERATURES, LegalMoves(TASK))
    of_task = programs(TASK, legal)
    whole, parts = continued(TASK, legal), continued(TASK, legal, chunks=(4, 4))
    self.assertEqual((int(whole.step), int(parts.step)), (TASK.max_steps - 1, 8))
    np.testing.assert_array_equal(parts.tokens[..., 9:], generate.NO_TOKEN)
    self.assertTrue(np.any(whole.tokens[..., 9:] != generate.NO_TOKEN))
    again = of_task.advance(parts, 4)  # past the cut
    np.testing.assert_array_equal(again.ended, whole.ended)
    assert_same_walks(of_task.finish(again), of_task.finish(whole))

  def test_steps_past_the_cut_change_no_walk(self):
    legal = at_temperatures(TEMPERATURES, LegalMoves(TASK))
    of_task, whole = programs(TASK, legal), continued(TASK, legal)
    self.assertFalse(np.all(whole.ended))  # some walks could go on
    beyond = whole
    for _ in range(3):
      beyond = of_task.advance(beyond, 4)
      np.testing.assert_array_equal(beyond.ended, whole.ended)
      assert_same_walks(of_task.finish(beyond), of_task.finish(whole))

  def test_temperatures_do_not_disturb_each_other(self):
    together = legal_roll_out(TASK)
    for i, temperature in enumerate(TEMPERATURES):
      apart = legal_roll_out(TASK, temperatures=(temperature,) * 3)
      for name in ("nodes", "confidence", "child_logits"):
        np.testing.assert_array_equal(getattr(apart, name)[:, 0], getattr(together, name)[:, i], err_msg=name)
      for other in (1, 2):
        rollouts_agree = np.array_equal(apart.nodes[:, 0], apart.nodes[:, other])
        self.assertEqual(rollouts_agree, temperature == 0)  # else each has draws of its own

  def test_problems_share_a_goal_between_temperatures(self):
    problems = problems_of(TASK)
    self.assertEqual(problems.goal_chain.shape, (24, 3))
    np.testing.assert_array_equal(problems.goal_chain, np.tile(problems.goal_chain[:, :1], (1, 3)))
    self.assertEqual(set(np.unique(problems.goal_chain)), {0, 1})
    self.assertGreater(len(np.unique(problems.graphs.labels, axis=0)), 12)


@dataclasses.dataclass(frozen=True)
class Counted:
  """Changes the logits by a function, and counts its calls."""

  name: str
  change: Callable[[jax.Array], jax.Array]
  neutral = None

  def check(self, strength):
    pass

  def init(self, prompt, sizes):
    return jnp.int32(0)

  def apply(self, strength, state, logits, context):
    return state + 1, self.change(logits)


LAST_IS_THREE = (Counted("zero", jnp.zeros_like), Counted("three", lambda logits: logits.at[..., 3].add(1.0)))


class ProcessorTest(absltest.TestCase):
  def test_they_act_in_order_and_their_state_is_carried_between_chunks(self):
    continuations = continued(TASK, at_temperatures((0.0,) * 3, *LAST_IS_THREE), chunks=(1, 2))
    np.testing.assert_array_equal(continuations.tokens[..., 1], 3)  # the other way round: all logits 0, so label 0
    self.assertEqual([int(state) for state in continuations.processors[:2]], [3, 3])

  def test_every_step_has_a_draw_of_its_own(self):
    tokens = np.asarray(continued(TASK, at_temperatures((1.0,) * 3, *LAST_IS_THREE), chunks=(4,)).tokens[..., 1:5])
    distinct = [len(set(of_walk)) for of_walk in tokens.reshape(-1, 4).tolist()]
    self.assertGreater(np.mean(np.array(distinct) > 1), 0.9)

  def test_a_walk_whose_tokens_are_all_banned_is_stuck_and_counts_as_broken(self):
    """Without a flag, the argmax of nothing would be token 0."""
    generation = at_temperatures((0.0, 1.0), Counted("none", lambda logits: jnp.full_like(logits, -jnp.inf)))
    task = dataclasses.replace(TASK, max_steps=6)
    problems = Problems(problems_of(TASK).graphs, problems_of(TASK).goal_chain[:, :2])
    probabilities, student = teacher.teacher_probabilities(task), student_functions.functions_of(MODEL, task)
    asked = Asked(
      task,
      student,
      random_params(MODEL, task, SEED),
      probabilities,
      problems,
      generation.processors,
      generation.traced(),
    )

    @jax.jit
    def walk(key):
      continuations = rollouts.advance(asked, rollouts.begin(asked, key), num_steps=5)
      return continuations, rollouts.finish(task, probabilities, problems, continuations)

    continuations, rollout = walk(jax.random.key(0))
    self.assertTrue(np.all(continuations.stuck) and np.all(continuations.ended))
    np.testing.assert_array_equal(continuations.tokens[..., 1:], generate.NO_TOKEN)
    expected = [START, task.num_nodes] + [PADDING] * 4
    np.testing.assert_array_equal(rollout.nodes, np.broadcast_to(expected, rollout.nodes.shape))

  def test_what_is_recorded_is_the_students_own(self):
    """Not what the processors make of it: at s a legal walk has one move, and is no surer of it."""
    plain, legal = roll_out(TASK), legal_roll_out(TASK)
    np.testing.assert_allclose(legal.confidence[..., 1], plain.confidence[..., 1], rtol=1e-6)
    np.testing.assert_allclose(legal.child_logits[..., 0, :], plain.child_logits[..., 0, :], rtol=1e-5)
    self.assertFalse(np.array_equal(legal.nodes[..., 1], plain.nodes[..., 1]))
    self.assertLess(legal.confidence[..., 1].min(), 0.5)


def outcome_of(task: StarGraph, nodes: list[int], goal_chain: int) -> tuple[str, int]:
  """How the walk ends that these nodes begin with, `reached`, `broken` or `cut`; and its length, the last move's node
  included."""
  for i in range(1, len(nodes)):
    if nodes[i] not in brute_force.valid_successors(task, nodes[i - 1]):
      return "broken", i + 1
    if nodes[i] == brute_force.goal_of(task, goal_chain):
      return "reached", i + 1
  return "cut", len(nodes)


@functools.cache
def scripted(task: StarGraph) -> Student:
  """Goes from node to node of its parameters [W] with certainty; N stands for a label off the graph."""

  def begin(params, probabilities, problems):
    of_node = jax.vmap(lambda labels: jnp.append(labels, jnp.argmin(jnp.zeros(task.vocabulary_size).at[labels].set(1))))
    return of_node(problems.graphs.labels)

  def step(params, labels_of_nodes, labels, index):
    label = labels_of_nodes[:, params[index + 1]]
    logits = 100 * jax.nn.one_hot(label, task.vocabulary_size)
    return jnp.broadcast_to(logits[:, None], (*labels.shape, task.vocabulary_size)), labels_of_nodes

  return Student(begin, step, read=None)


@functools.cache
def same_everywhere(task: StarGraph) -> Student:
  """Gives node i the logit `params`[i], whatever it reads; those of index N to labels off the graph."""

  def begin(params, probabilities, problems):
    fresh = jnp.full(task.vocabulary_size, params[-1])
    return jax.vmap(lambda labels: fresh.at[labels].set(params[:-1]))(problems.graphs.labels)

  def step(params, logits, labels, index):
    return jnp.broadcast_to(logits[:, None], (*labels.shape, task.vocabulary_size)), logits

  return Student(begin, step, read=None)


@functools.cache
def walking(task: StarGraph, student: Student, num_graphs: int, processors: tuple[Processor, ...]):
  """A compiled walk: (key, parameters, the teacher's probabilities, columns) -> nodes [G, W] and goals [G]."""

  @jax.jit
  def walk(key, params, probabilities, columns):
    problem_key, walk_key = jax.random.split(key)
    problems = sample_problems(task, problem_key, num_graphs, 1)
    asked = Asked(task, student, params, probabilities, problems, processors, columns)
    continuations = rollouts.advance(asked, rollouts.begin(asked, walk_key), num_steps=task.max_steps - 1)
    rollout = rollouts.finish(task, probabilities, problems, continuations)
    return rollout.nodes[:, 0], problems.goal_chain[:, 0]

  return walk


def walk_with(
  task: StarGraph, make_student: Callable[[StarGraph], Student], params: np.ndarray, *, num_graphs: int,
  temperature: float = 0.0, processors=(),
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
  """One walk of a student on each of some graphs, [G, W], and the goals, [G]; one program for all probabilities."""
  sizes, generation = teacher.sizes_of(task), at_temperatures((temperature,), *processors)
  walk = walking(sizes, make_student(sizes), num_graphs, generation.processors)
  given = jnp.asarray(params), teacher.teacher_probabilities(task), generation.traced()
  return jax.tree.map(np.asarray, walk(jax.random.key(0), *given))


def padded(task: StarGraph, nodes: list[int]) -> list[int]:
  return nodes + [PADDING] * (task.max_steps - len(nodes))


class InvalidMoveTest(parameterized.TestCase):
  """The walks of students that leap: nodes s = 0, r = 1, chains 2-3 and 4-5; 6 is off the graph."""

  LONG = StarGraph(num_chains=2, chain_length=2, spare_labels=1, max_steps=12)

  @parameterized.parameters(
    ([0, 1, 3], dict(), "to a leaf, from r"),
    ([0, 1, 0, 1, 5], dict(), "the same after a return"),
    ([0, 5], dict(), "from s"),
    ([0, 1, 2, 5], dict(), "into another chain"),
    ([0, 0], dict(), "s to s"),
    ([0, 1, 6], dict(), "off the graph"),
    ([0, 1, 2, 3, 1], dict(goal=1), "back to r and not to s"),
    ([0, 1, 0], dict(reset_prob=0.0), "a reset that the teacher never makes"),
    ([0, 1, 2, 0], dict(reset_prob=0.0), "the same in a chain"),
  )
  def test_a_walk_ends_at_its_first_invalid_move(self, script, settings, name):
    """Whatever the student would do next, here to go on as the teacher does; also where it leaps onto the goal."""
    goal = settings.pop("goal", None)
    task = dataclasses.replace(self.LONG, **settings)
    walks, goals = walk_with(task, scripted, np.array((script + [0, 1, 2, 3, 0, 1, 4, 5] * 2)[:12]), num_graphs=8)
    self.assertEqual(set(goals.tolist()), {0, 1})
    for walk in walks[goals == goal] if goal is not None else walks:
      self.assertEqual(walk.tolist(), padded(task, script), name)

  def test_a_leap_onto_the_goal_is_broken_and_not_reached(self):
    """The walk measures say so too; the goal's leaf is 3 or 5."""
    walks, goals = walk_with(self.LONG, scripted, np.array([0, 1, 3] + [0] * 9), num_graphs=8)
    leaps_onto_goal = goals == 0
    self.assertBetween(leaps_onto_goal.sum(), 1, 7)
    measure = functools.partial(
      walk_measures.measure_walk, self.LONG, teacher.teacher_probabilities(self.LONG)
    )  # fmt: skip
    got = jax.jit(jax.vmap(measure))(jnp.asarray(walks), jnp.asarray(goals))
    np.testing.assert_array_equal(got.reached, 0)
    np.testing.assert_array_equal(got.broken, 1)
    np.testing.assert_array_equal(got.response_length, 2)

  def test_valid_moves_to_the_goal_and_to_the_cut(self):
    script = [0, 1, 2, 3] + 4 * [0, 1]
    walks, goals = walk_with(self.LONG, scripted, np.array(script), num_graphs=8)
    for walk, goal in zip(walks, goals, strict=True):
      self.assertEqual(walk.tolist(), padded(self.LONG, script[:4]) if goal == 0 else script)


class LegalMovesTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.3, {ROOT: {START, 2, 4}, 2: {START, 3}, 3: {START}}),
    (0.0, {ROOT: {2, 4}, 2: {3}, 3: {START}}),
  )
  def test_no_walk_is_broken_and_the_distribution_is_the_renormalised_one(self, reset_prob, expected_moves):
    """Of a student that likes invalid moves best; chi-square at every node, at temperature 0.7."""
    task, temperature = dataclasses.replace(InvalidMoveTest.LONG, reset_prob=reset_prob), 0.7
    logits = np.array([0.3, 2.5, -0.2, 0.9, 0.4, 1.5, 3.0])
    drawn = functools.partial(walk_with, task, same_everywhere, logits, temperature=temperature)
    walks, goals = drawn(num_graphs=1500, processors=(LegalMoves(teacher.sizes_of(task)),))
    moves = collections.defaultdict(collections.Counter)
    for walk, goal in zip(walks.tolist(), goals, strict=True):
      outcome, end = outcome_of(task, walk, goal)
      self.assertNotEqual(outcome, "broken")
      for before, after in itertools.pairwise(walk[:end]):
        moves[before][after] += 1
    for node, allowed in expected_moves.items():
      self.assertEqual(set(moves[node]), allowed)
      weights = np.array([np.exp(logits[after] / temperature) for after in moves[node]])
      counts = np.array(list(moves[node].values()))
      if len(allowed) > 1:
        result = scipy.stats.chisquare(counts, counts.sum() * weights / weights.sum())
        print(f"reset {reset_prob:g}, node {node}: {dict(moves[node])}, p value {result.pvalue:.3f}")
        self.assertGreater(result.pvalue, SMALLEST_P)
    without, _ = drawn(num_graphs=100)
    self.assertGreater(np.mean(without[:, 4] == PADDING), 0.9)  # as it is, it leaves the graph


class ChildLogitsTest(parameterized.TestCase):
  @parameterized.parameters("float32", "bfloat16")
  def test_the_child_that_leads_is_the_child_that_is_taken(self, matmul_dtype):
    """Greedy, at every visit to r. In bfloat16 a second reading of the walk gives other numbers."""
    task = dataclasses.replace(TASK, num_chains=4, reset_prob=0.0)
    model = dataclasses.replace(MODEL, num_layers=1, matmul_dtype=matmul_dtype)
    rollout = legal_roll_out(task, temperatures=(0.0,) * 3, model=model)
    nodes = np.asarray(rollout.nodes[:, 0])
    at_root = (nodes[:, :-1] == ROOT) & (nodes[:, 1:] != PADDING)
    self.assertGreater(at_root.sum(), 40)
    taken = nodes[:, 1:][at_root] - 2  # chains have one node each
    np.testing.assert_array_equal(np.argmax(rollout.child_logits[:, 0], axis=-1)[at_root], taken)
    self.assertGreater(len(set(taken.tolist())), 2)

    student, params = student_functions.functions_of(model, task), random_params(model, task, SEED)
    probabilities = teacher.teacher_probabilities(task)
    problems = problems_of(task)
    read = jax.jit(lambda walks: student.read(params, probabilities, problems, walks))(rollout.nodes)
    again = np.asarray(student_functions.child_logits(task, problems.graphs, read))[:, 0][at_root]
    difference = np.abs(again - np.asarray(rollout.child_logits[:, 0])[at_root]).max()
    print(f"{matmul_dtype}: recorded against read again, max |difference| {difference:.1e}")
    self.assertEqual(difference > 1e-4, matmul_dtype == "bfloat16")


def random_students(mesh, count: int = 4) -> Students:
  """Students of one layer that differ in the scale of their parameters."""
  model = dataclasses.replace(MODEL, num_layers=1)
  scale = np.linspace(0.5, 2, count, dtype=np.float32)
  base = random_params(model, TASK)
  params = jax.tree.map(lambda leaf: leaf[None] * scale.reshape((count,) + (1,) * leaf.ndim), base)
  stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), task_state(TASK, Training()))
  keys = jax.random.split(jax.random.key(0), count)
  state = seeds.place(TrainState(jnp.zeros(count, jnp.int32), params, (), keys, stacked, ()), mesh)
  return Students(
    [TASK], model, Training(), list(range(count)), [MaximumLikelihood()], mesh, state, np.ones(count, bool),
    pd.DataFrame(),
  )  # fmt: skip


def mesh_of(num_devices: int):
  return jax.make_mesh(
    (num_devices, 1), (devices.SEED, devices.DATA), (AxisType.Auto,) * 2, devices=jax.devices()[:num_devices]
  )


@functools.cache
def evaluated(num_devices: int, temperatures: tuple[float, ...]) -> evaluation.Rollouts:
  """Legal walks of four students on 8 graphs each, on the host."""
  mesh = mesh_of(num_devices)
  with mock.patch.object(evaluation, "STEPS_PER_CHUNK", 4):
    generation = at_temperatures(temperatures, LegalMoves(teacher.sizes_of(TASK)))
    walked = evaluation.roll_out(random_students(mesh), generation=generation, num_graphs=8, seed=0)
  assert len(walked.nodes.sharding.device_set) == num_devices
  return seeds.to_host(walked, 4)


class EvaluationTest(absltest.TestCase):
  def test_rollouts_end_once_all_walks_are_over_and_strengths_compile_nothing(self):
    mesh = mesh_of(1)
    group, legal = random_students(mesh), LegalMoves(teacher.sizes_of(TASK))
    with (
      mock.patch.object(evaluation, "STEPS_PER_CHUNK", 2),
      mock.patch.object(rollouts, "advance", wraps=rollouts.advance) as advance,
    ):
      evaluation._rollout_programs.cache_clear()
      for temperatures in ((0.0, 0.5), (0.3, 1.0)):
        walked = evaluation.roll_out(group, generation=at_temperatures(temperatures), num_graphs=8, seed=0)
        longest = int(np.sum(np.asarray(walked.nodes) != PADDING, axis=-1).max())
        self.assertLess(longest, TASK.max_steps)  # all are broken, or at their goals, before the cut
      self.assertEqual(advance.call_count, 1)  # traced once
      evaluation.roll_out(group, generation=at_temperatures((0.3, 1.0), legal), num_graphs=8, seed=0)
      self.assertEqual(advance.call_count, 2)

  def test_rollouts_on_four_devices_are_those_on_one(self):
    found = [evaluated(num_devices, (0.0, 0.4, 1.0)) for num_devices in (1, 4)]
    self.assertEqual(found[0].nodes.shape, (4, 8, 3, TASK.max_steps))
    self.assertEqual(found[0].child_logits.shape, (4, 8, 3, TASK.max_steps - 1, TASK.num_chains))
    jax.tree.map(np.testing.assert_array_equal, found[1], found[0])
    labels = found[0].problems.graphs.labels
    self.assertLen(np.unique(labels.reshape(4, -1), axis=0), 4)  # every student has graphs of its own
    self.assertTrue(np.any(found[0].nodes[..., 9:] != PADDING))  # the last chunk was needed

  def test_draws_at_one_temperature_do_not_depend_on_which_others_are_listed(self):
    several, alone, twice = (evaluated(4, listed) for listed in ((0.0, 0.4, 1.0), (0.4,), (0.4,) * 3))
    np.testing.assert_array_equal(alone.problems.graphs.labels, several.problems.graphs.labels)
    np.testing.assert_array_equal(alone.nodes[:, :, 0], several.nodes[:, :, 1])
    np.testing.assert_allclose(alone.confidence[:, :, 0], several.confidence[:, :, 1], rtol=1e-5)
    np.testing.assert_array_equal(twice.nodes[:, :, 0], alone.nodes[:, :, 0])
    self.assertFalse(np.array_equal(twice.nodes[:, :, 1], alone.nodes[:, :, 0]))  # equal ones are other draws


if __name__ == "__main__":
  absltest.main()
