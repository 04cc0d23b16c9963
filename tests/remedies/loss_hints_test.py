"""Hints by loss: highest losses in plain Python, how often walks have hints, rows at share 0, errors."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from loopjax.remedies import loss_hints
from loopjax.remedies.loss_hints import LossHints
from loopjax.remedies.reversed_chain import ReversedChain
from loopjax.star_graph import encoding
from loopjax.star_graph.objective import task_state
from loopjax.training.step import Training
from tests.models.students import random_params
from tests.remedies import cases, groups_test
from tests.remedies.reversed_chain_test import KEY, MODEL, TASK, plain_row
from tests.star_graph import brute_force

TRAINING = Training(streams_per_row=200, stream_length=30)


@functools.cache
def sampled(share: float, scale: float) -> encoding.Row:
  """A row whose reference says what a random one says, times `scale`: at 0 the same everywhere."""
  params = random_params(MODEL, TASK)
  params["head"]["kernel"] *= scale
  config, built = LossHints(1.0), LossHints().build(TASK, MODEL, TRAINING)
  extra = built.begin(params, config.init(KEY, TASK, TRAINING))._replace(share=jnp.float32(share))
  return jax.tree.map(np.asarray, jitted_sample(built.sample)(KEY, task_state(TASK, TRAINING), extra))


@functools.cache
def jitted_sample(sample):
  return cases.jit(sample)


class HighestLossTest(absltest.TestCase):
  def test_plain_python(self):
    row = plain_row()
    logits = np.random.default_rng(0).normal(size=(*row.nodes.shape, TASK.vocabulary_size)).astype(np.float32)
    found = np.asarray(cases.jit(functools.partial(loss_hints.highest_loss, TASK))(row, logits))
    expected, visits = np.zeros_like(found), 0
    children = row.labels[brute_force.children_of_root(TASK)]
    for stream, place in np.ndindex(row.nodes.shape):
      walk = row.segments[stream, place]
      if row.inputs[stream, place, 1] == encoding.goal_id(TASK):
        goals = [brute_force.goal_of(TASK, chain) for chain in range(TASK.num_chains)]
        goal_chain = goals.index(row.nodes[stream, place])
      elif row.nodes[stream, place] == brute_force.R:
        loss = -np.log(cases.softmax(logits[stream, place, children])[goal_chain])
        expected[stream, walk] = max(expected[stream, walk], loss)
        visits += 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    self.assertGreater(visits, (expected > 0).sum())


class RowTest(absltest.TestCase):
  def test_a_reference_that_knows_nothing_hints_half_of_the_walks_of_two_chains(self):
    for share, expected in ((1.0, 0.5), (0.4, 0.2)):
      row = sampled(share, 0.0)
      begins = (row.inputs[..., 1] == encoding.goal_id(TASK)) & np.isin(row.nodes, (4, 7))  # of each walk the goal told
      self.assertGreater(begins.sum(), 500)
      self.assertAlmostEqual((row.weights[begins] > 0).mean(), expected, delta=0.06)

  def test_at_share_0_rows_are_those_without_hints(self):
    plain = ReversedChain(0.0).build(TASK, MODEL, TRAINING)
    expected = cases.jit(plain.sample)(KEY, task_state(TASK, TRAINING), jnp.float32(0))
    jax.tree.map(np.testing.assert_array_equal, sampled(0.0, 1.0), expected)


class ObjectiveTest(absltest.TestCase):
  def test_a_group_comes_back(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    task = dataclasses.replace(groups_test.TASK, chain_length=2)
    group = groups_test.train([LossHints(0.0), LossHints(1.0)], folder, task)
    self.assertTrue(group.is_finite.all())
    groups_test.assert_comes_back(group, folder)
    losses = group.history.pivot(index="step", columns="row", values="loss").to_numpy()
    self.assertTrue((losses[0, :2] != losses[0, 2:]).all())

  def test_validation(self):
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      LossHints(1.5)
    with self.assertRaisesRegex(ValueError, r"^task\.chain_length=1 .* at least 2"):
      LossHints().build(dataclasses.replace(TASK, chain_length=1), MODEL, TRAINING)


if __name__ == "__main__":
  absltest.main()
