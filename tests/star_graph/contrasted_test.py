"""The contrastive strategies in a student's walks, against choices made by hand from whole readings."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.generation.processors.contrastive_decoding import ContrastiveDecoding
from loopjax.generation.processors.contrastive_search import ContrastiveSearch
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import by_name
from loopjax.models import transformer
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices
from loopjax.star_graph import encoding, evaluation, student_functions
from loopjax.star_graph.contrasted import BesideAmateur, LookingAhead, Pair
from loopjax.star_graph.graph import START, StarGraph
from loopjax.star_graph.null_worlds import untrained_students
from loopjax.star_graph.student_functions import Problems
from loopjax.star_graph.teacher import PADDING
from loopjax.training.step import Training

TASK = StarGraph(num_chains=3, chain_length=1, max_steps=8, explore_prob=0.5)
MODEL = Transformer(num_layers=1, num_heads=2, width=16)
GRAPHS = 16


@functools.cache
def students():
  return untrained_students(MODEL, [TASK], Training(), [0, 1], devices.device_mesh())


@functools.cache
def plain_walks():
  generation = by_name((Temperature(),), [{"temperature": 0.0}])
  return evaluation.roll_out(students(), generation=generation, num_graphs=GRAPHS, seed=0)


def walk(group, processor, strengths):
  """Columns for as many strengths: where tests ask for two alike they share a program."""
  generation = by_name((processor, Temperature()), [{processor.name: s, "temperature": 0.0} for s in strengths])
  return evaluation.roll_out(group, generation=generation, num_graphs=GRAPHS, seed=0)


def problems_of(rollouts, student):
  """Of the last column."""
  graphs, goals = jax.tree.map(lambda leaf: leaf[student], tuple(rollouts.problems))
  return Problems(graphs, goals[:, -1:])


def first_labels(group, rollouts, student, choose):
  """The label that each walk should take at s: `choose(logits at s [V], hidden of each next label [V, D], of s)`."""
  params = jax.tree.map(lambda leaf: leaf[student], group.state.params)
  problems, chosen = problems_of(rollouts, student), []
  for g in range(GRAPHS):
    one = jax.tree.map(lambda leaf, g=g: leaf[g : g + 1], problems)
    labels = one.graphs.labels[0]
    walks = [jnp.stack([labels[START], label]) for label in range(TASK.vocabulary_size)]
    outputs = [jax.tree.map(np.asarray, _read(params, one, walk)) for walk in walks]
    chosen.append(choose(*outputs[0][0], np.stack([hidden[1] for _, hidden in outputs]), outputs[0][1][0]))
  return chosen


@jax.jit
def _read(params, problem, labels):
  """Logits [1, V] at s and hidden states [2, D] of the walk with these two labels, by the reading of whole rows."""
  walks = jnp.full((1, 1, TASK.max_steps), PADDING).at[0, 0, :2].set(jnp.asarray([START, 1]))
  row = encoding.encode_walks(TASK, problem.graphs, problem.goal_chain, walks)
  inputs = row.inputs.at[0, 0, 1:3, 0].set(labels)
  output = transformer.apply(MODEL, TASK, params, row._replace(inputs=inputs))
  return output.logits[0, 0, 1:2], output.hidden[0, 0, 1:3]


class ContrastiveSearchTest(absltest.TestCase):
  def test_the_first_choice_is_the_rule_of_the_paper(self):
    group = students()
    wrapped = group._replace(model=LookingAhead(MODEL, k=3))
    rollouts = walk(wrapped, ContrastiveSearch(), [0.0, 0.6])

    def choose(logits, ahead, at_start):
      probabilities = np.exp(logits - np.logaddexp.reduce(logits))
      cosine = ahead @ at_start / np.linalg.norm(ahead, axis=1) / np.linalg.norm(at_start)
      score = 0.4 * probabilities - 0.6 * cosine
      candidates = np.argsort(-logits)[:3]
      return candidates[np.argmax(score[candidates])]

    expected = first_labels(group, rollouts, 0, choose)
    labels, nodes = np.asarray(problems_of(rollouts, 0).graphs.labels), np.asarray(rollouts.nodes[0, :, 1, 1])
    for g, label in enumerate(expected):
      taken = labels[g, nodes[g]] if nodes[g] < TASK.num_nodes else None
      self.assertEqual(taken, label if label in labels[g] else None)

  def test_strength_0_is_plain_decoding(self):
    group = students()
    ahead, alone = group._replace(model=LookingAhead(MODEL)), plain_walks()
    wrapped = walk(ahead, ContrastiveSearch(), [0.0, 0.6])
    np.testing.assert_array_equal(wrapped.nodes[:, :, 0], alone.nodes[:, :, 0])
    self.assertTrue(np.any(np.asarray(wrapped.nodes[:, :, 1]) != np.asarray(alone.nodes[:, :, 0])))


class ContrastiveDecodingTest(absltest.TestCase):
  def test_the_likeliest_by_the_ratio_is_taken(self):
    group = students()
    other = jax.tree.map(
      lambda leaf: leaf[1 - jnp.minimum(jnp.arange(len(leaf)), 1)], group.state.params
    )  # each other's
    wrapped = group._replace(
      model=BesideAmateur(MODEL), state=group.state._replace(params=Pair(group.state.params, other))
    )
    rollouts = walk(wrapped, ContrastiveDecoding(), [0.0, 1.0])
    read = jax.jit(student_functions.functions_of(MODEL, TASK).read)
    for student in range(2):
      problems = problems_of(rollouts, student)
      walks = jnp.full((GRAPHS, 1, TASK.max_steps), PADDING).at[..., 0].set(START)
      expert, amateur = (
        np.asarray(read(jax.tree.map(lambda leaf, i=i: leaf[i], group.state.params), None, problems, walks)[:, 0, 0])
        for i in (student, 1 - student)
      )
      plausible = expert >= expert.max(-1, keepdims=True) + np.log(0.1)
      amateur = amateur - np.logaddexp.reduce(amateur, axis=-1, keepdims=True)
      expected = np.where(plausible, expert - amateur, -np.inf).argmax(-1)
      labels, nodes = np.asarray(problems.graphs.labels), np.asarray(rollouts.nodes[student, :, 1, 1])
      for g, label in enumerate(expected):
        taken = labels[g, nodes[g]] if nodes[g] < TASK.num_nodes else None
        self.assertEqual(taken, label if label in labels[g] else None)

  def test_an_amateur_that_is_the_expert_leaves_plausible_labels_alike(self):
    """log p - log p is 0 for all plausible labels: the first of them is taken, whatever the expert prefers."""
    group = students()
    wrapped = group._replace(
      model=BesideAmateur(MODEL), state=group.state._replace(params=Pair(group.state.params, group.state.params))
    )
    rollouts, alone = walk(wrapped, ContrastiveDecoding(), [0.0, 1.0]), plain_walks()
    np.testing.assert_array_equal(rollouts.nodes[:, :, 0], alone.nodes[:, :, 0])
    self.assertTrue(np.any(np.asarray(rollouts.nodes[:, :, 1]) != np.asarray(alone.nodes[:, :, 0])))


if __name__ == "__main__":
  absltest.main()
