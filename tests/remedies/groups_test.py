"""What every remedy promises: one program for a grid of strengths, nothing at strength 0, and students that come back.

A group holds students without the remedy and with it, on the same data. One program trains it, so one compilation a
remedy tests all. It is compiled quickly, and then differs from maximum likelihood by rounding. Bit for bit is tested
apart: losses here, rows in the tests of those remedies that change rows.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax import remedies
from loopjax.models.transformer import Transformer
from loopjax.remedies.confidence_penalty import ConfidencePenalty
from loopjax.remedies.contrastive import Contrastive
from loopjax.remedies.curriculum import Curriculum
from loopjax.remedies.distillation import Distillation
from loopjax.remedies.ditto import Ditto
from loopjax.remedies.first_token import FirstToken
from loopjax.remedies.label_smoothing import LabelSmoothing
from loopjax.remedies.loop_erased import LoopErased
from loopjax.remedies.policy_gradient import PolicyGradient
from loopjax.remedies.scale_grad import ScaleGrad
from loopjax.remedies.seed_conditioning import SeededWalks
from loopjax.remedies.sequence_unlikelihood import SequenceUnlikelihood
from loopjax.remedies.unlikelihood import Unlikelihood
from loopjax.runtime import devices, seeds
from loopjax.star_graph import students, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import OBJECTIVES, MaximumLikelihood, ObjectiveConfig
from loopjax.star_graph.students import Students
from loopjax.training import runner
from loopjax.training.step import Training
from tests.compiling import ROUND_ALIKE
from tests.models.students import random_params, sample_packed

TASK = StarGraph(num_chains=2, chain_length=1, max_steps=8, explore_prob=0.5)
MODEL = Transformer(num_layers=1, num_heads=1, width=4, positions="none", spare_ids=3)
TRAINING, SEEDS = Training(num_steps=3, rows_per_step=4, warmup_steps=0, stream_length=16), (4, 7)
# Without the remedy, and with it.
PAIRS: dict[str, tuple[ObjectiveConfig, ObjectiveConfig]] = {
  "confidence_penalty": (ConfidencePenalty(0.0), ConfidencePenalty(0.5)),
  "contrastive": (Contrastive(0.0), Contrastive(1.0, 0.9)),
  "curriculum": (Curriculum(0), Curriculum(2, explore_prob=0.0)),
  "distillation": (Distillation(0.0, "raw"), Distillation(1.0, "raw", refresh_every=2)),
  "ditto": (Ditto(0.0), Ditto(0.7)),
  "first_token": (FirstToken(0.0), FirstToken(5.0, min_p=0.01)),
  "label_smoothing": (LabelSmoothing(0.0), LabelSmoothing(0.3)),
  "loop_erased": (LoopErased(0.0), LoopErased(1.0)),
  "policy_gradient": (PolicyGradient(0.0), PolicyGradient(1.0)),
  "scale_grad": (ScaleGrad(1.0), ScaleGrad(0.3)),
  "seed_conditioning": (SeededWalks(0.0), SeededWalks(1.0)),
  "sequence_unlikelihood": (SequenceUnlikelihood(0.0, 1), SequenceUnlikelihood(5.0, 1)),
  "unlikelihood": (Unlikelihood(0.0), Unlikelihood(1.0)),
}
TESTED_ELSEWHERE = (
  "growing_chains", "hinted", "label_noise", "loss_hints", "margin_loss", "multi_token", "reversed_chain",
)  # fmt: skip


def train(objectives: list[ObjectiveConfig], folder=None, task: StarGraph = TASK) -> Students:
  asked = [task] * len(objectives), MODEL, TRAINING, SEEDS, devices.device_mesh()
  with mock.patch.object(seeds, "map_seeds", functools.partial(seeds.map_seeds, brief=True)):  # compiles quickly
    return students.train_students(*asked, objectives=objectives, folder=folder)


@functools.cache
def maximum_likelihood() -> Students:
  return train([MaximumLikelihood()] * 2)  # as many rows as a pair, so that products have the same shapes


def assert_comes_back(group: Students, folder) -> None:
  """What lies in the folder is the group."""
  loaded = students.load_students(folder, devices.device_mesh())
  assert loaded.objectives == group.objectives
  for found, expected in zip(jax.tree.leaves(loaded.state), jax.tree.leaves(group.state), strict=True):
    np.testing.assert_array_equal(_data(found), _data(expected))


def leaves(group: Students, task: int) -> list[np.ndarray]:
  """Parameters and optimiser state of the students of one task."""
  rows = slice(task * len(SEEDS), (task + 1) * len(SEEDS))
  return [np.asarray(leaf)[rows] for leaf in jax.tree.leaves((group.state.params, group.state.opt_state))]


class GroupTest(parameterized.TestCase):
  @parameterized.parameters(*PAIRS)
  def test_nothing_without_it_and_something_with_it_and_it_comes_back(self, name):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    with mock.patch.object(runner, "run_chunk", wraps=runner.run_chunk) as traced:
      group = train(list(PAIRS[name]), folder)
    self.assertEqual(traced.call_count, 1)  # one program for both strengths
    for found, expected in zip(leaves(group, 0), leaves(maximum_likelihood(), 0), strict=True):
      np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    losses = group.history.pivot(index="step", columns="row", values="loss").to_numpy()
    plain = maximum_likelihood().history.pivot(index="step", columns="row", values="loss").to_numpy()
    np.testing.assert_allclose(losses[:, :2], plain[:, :2], rtol=1e-6)
    self.assertTrue(group.is_finite.all())
    self.assertGreater(np.abs(losses[:, 2:] - plain[:, 2:]).max(), 1e-3)
    self.assertFalse(all(map(np.array_equal, leaves(group, 1), leaves(group, 0))))

    assert_comes_back(group, folder)

  def test_without_it_loss_and_gradient_are_those_of_maximum_likelihood_bit_for_bit(self):
    """Of the remedies that keep the teacher's rows."""
    params, batch, key = random_params(MODEL, TASK), sample_packed(TASK, 4, 1, 16), jax.random.key(0)
    sizes = teacher.sizes_of(TASK)

    def gradient(config):
      built, extra = config.build(sizes, MODEL, TRAINING), config.init(key, TASK, TRAINING)

      def mean(params):
        totals, weights, _ = built.loss(params, batch, key, extra)
        return sum(jax.tree.leaves(jax.tree.map(jnp.divide, totals, weights)))

      return jax.jit(jax.value_and_grad(mean), compiler_options=ROUND_ALIKE)(params)

    expected = gradient(MaximumLikelihood())
    for name in ("confidence_penalty", "contrastive", "label_smoothing", "scale_grad", "unlikelihood"):
      with self.subTest(name):
        jax.tree.map(np.testing.assert_array_equal, gradient(PAIRS[name][0]), expected)

  def test_every_remedy_is_here(self):
    self.assertCountEqual([*PAIRS, *TESTED_ELSEWHERE], remedies.__all__)
    for pair in PAIRS.values():
      self.assertIs(OBJECTIVES[type(pair[0]).__name__], type(pair[1]))


def _data(leaf) -> np.ndarray:
  """Of an array, or of typed keys."""
  return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


if __name__ == "__main__":
  absltest.main()
