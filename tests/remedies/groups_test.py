"""What every remedy promises: one program for a grid of strengths, nothing at strength 0, and students that come back.

A group holds students without the remedy and with it, on the same data. One program trains it, so one compilation a
remedy tests all. It is compiled quickly, and then differs from maximum likelihood by rounding. Bit for bit is tested
apart: losses here, rows in the tests of those remedies that change rows.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax import remedies
from loopjax.models.transformer import Transformer
from loopjax.remedies.contrastive import Contrastive
from loopjax.remedies.curriculum import Curriculum
from loopjax.remedies.distillation import Distillation, StudentTaught
from loopjax.remedies.first_token import FirstToken
from loopjax.remedies.scale_grad import ScaleGrad
from loopjax.remedies.sequence_unlikelihood import SequenceUnlikelihood
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
TEACHER = Transformer(num_layers=1, num_heads=1, width=8)  # of another architecture
TRAINING, SEEDS = Training(num_steps=3, rows_per_step=4, warmup_steps=0, stream_length=16), (4, 7)
HERE = "tests/remedies/groups_test.py"
ENTER = (
  "{0} at 0 of its first field is no maximum likelihood, or at its default does nothing. Where that is meant so, enter "
  f'"{{0}}" in PAIRS in {HERE}: a config without the remedy, and one with it.'
)
# Without the remedy and with it, where these are not: its default, and that with 0 in the first field.
PAIRS: dict[str, tuple[ObjectiveConfig, ObjectiveConfig]] = {
  "Contrastive": (Contrastive(0.0), Contrastive(1.0, 0.9)),
  "Curriculum": (Curriculum(0), Curriculum(2, explore_prob=0.0)),
  "Distillation": (Distillation(0.0, "raw"), Distillation(1.0, "raw", refresh_every=2)),
  "FirstToken": (FirstToken(0.0), FirstToken(5.0, min_p=0.01)),
  "ScaleGrad": (ScaleGrad(1.0), ScaleGrad(0.3)),
  "SequenceUnlikelihood": (SequenceUnlikelihood(0.0, 1), SequenceUnlikelihood(5.0, 1)),
  "StudentTaught": (StudentTaught(TEACHER, 0.0), StudentTaught(TEACHER, 1.0)),
}
NOT_IN_A_GROUP = {  # and why; the test of its own file has what is tested here
  "LabelNoise": "no remedy: its default is no noise",
  "LossHints": "needs chains of length 2",
  "MarginLoss": "the test of its own file holds whole steps",
  "MultiToken": "has heads that maximum likelihood does not have",
  "ReversedChain": "needs chains of length 2",
}
OWN_ROWS = {  # whose loss is not asked for on the teacher's rows, and why; the test of its own file compares rows
  "Curriculum": "changes rows alone",
  "Distillation": "changes rows alone",
  "Ditto": "rows say which positions repeat",
  "FirstToken": "rows come with graphs to walk on",
  "LoopErased": "changes rows alone",
  "PolicyGradient": "rows are own walks",
  "SeededWalks": "changes rows alone",
  "SequenceUnlikelihood": "rows come with graphs to walk on",
  "StudentTaught": "changes rows alone",
}
NO_OBJECTIVE = {"growing_chains", "hinted", "own_walks", "parts"}
"""Files that register none: one trains on one task after another, one lets students with hints walk, two are shared."""
KINDS = {name: kind for name, kind in OBJECTIVES.items() if kind.__module__.startswith("loopjax.remedies.")}
IN_GROUPS = [name for name in KINDS if name not in NOT_IN_A_GROUP]


def without_and_with(name: str) -> tuple[ObjectiveConfig, ObjectiveConfig]:
  """The remedy at a strength at which it changes nothing, and at another one."""
  if name in PAIRS:
    return PAIRS[name]
  try:
    strength, *_ = dataclasses.fields(KINDS[name])
    return dataclasses.replace(KINDS[name](), **{strength.name: 0.0}), KINDS[name]()
  except (TypeError, ValueError) as error:
    raise LookupError(ENTER.format(name)) from error


def named(names: list[str]) -> list[tuple[str, str]]:
  """Names of cases that `pytest -k` finds by file and by class."""
  return [(f"{KINDS[name].__module__.split('.')[-1]}_{name}", name) for name in names]


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


@functools.cache
def gradient(config: ObjectiveConfig):
  """Loss and gradient on the teacher's rows."""
  params, batch, key = random_params(MODEL, TASK), sample_packed(TASK, 4, 1, 16), jax.random.key(0)
  built, extra = config.build(teacher.sizes_of(TASK), MODEL, TRAINING), config.init(key, TASK, TRAINING)

  def mean(params):
    totals, weights, _ = built.loss(params, batch, key, extra)
    return sum(jax.tree.leaves(jax.tree.map(jnp.divide, totals, weights)))

  return jax.jit(jax.value_and_grad(mean), compiler_options=ROUND_ALIKE)(params)


def leaves(group: Students, task: int) -> list[np.ndarray]:
  """Parameters and optimiser state of the students of one task."""
  rows = slice(task * len(SEEDS), (task + 1) * len(SEEDS))
  return [np.asarray(leaf)[rows] for leaf in jax.tree.leaves((group.state.params, group.state.opt_state))]


class GroupTest(parameterized.TestCase):
  @parameterized.named_parameters(named(IN_GROUPS))
  def test_nothing_without_it_and_something_with_it_and_it_comes_back(self, name):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    with mock.patch.object(runner, "run_chunk", wraps=runner.run_chunk) as traced:
      group = train(list(without_and_with(name)), folder)
    self.assertEqual(traced.call_count, 1)  # one program for both strengths
    losses = group.history.pivot(index="step", columns="row", values="loss").to_numpy()
    plain = maximum_likelihood().history.pivot(index="step", columns="row", values="loss").to_numpy()
    enter = ENTER.format(name)
    np.testing.assert_allclose(losses[:, :2], plain[:, :2], rtol=1e-6, err_msg=enter)
    for found, expected in zip(leaves(group, 0), leaves(maximum_likelihood(), 0), strict=True):
      np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=enter)
    self.assertTrue(group.is_finite.all())
    self.assertGreater(np.abs(losses[:, 2:] - plain[:, 2:]).max(), 1e-3, enter)
    self.assertFalse(all(map(np.array_equal, leaves(group, 1), leaves(group, 0))))

    assert_comes_back(group, folder)

  @parameterized.named_parameters(named([name for name in IN_GROUPS if name not in OWN_ROWS]))
  def test_without_it_loss_and_gradient_are_those_of_maximum_likelihood_bit_for_bit(self, name):
    try:
      found = gradient(without_and_with(name)[0])
    except (AttributeError, TypeError, ValueError) as error:
      raise LookupError(f"{name} needs other rows than the teacher's: enter it in OWN_ROWS in {HERE}.") from error
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(gradient(MaximumLikelihood())), strict=True):
      np.testing.assert_array_equal(one, other, ENTER.format(name))

  def test_every_file_is_a_remedy_and_lists_name_no_other(self):
    registered = {kind.__module__.removeprefix("loopjax.remedies.") for kind in KINDS.values()}
    forgotten = {*remedies.MODULES} - registered - NO_OBJECTIVE
    self.assertEmpty(forgotten, "decorate its config with `@register`, or enter the file in NO_OBJECTIVE in " + HERE)
    self.assertEmpty({*PAIRS, *NOT_IN_A_GROUP, *OWN_ROWS} - {*KINDS})
    self.assertEmpty(NO_OBJECTIVE - {*remedies.MODULES})
    for name, pair in PAIRS.items():
      self.assertEqual({type(config) for config in pair}, {KINDS[name]})

  def test_the_definitions_list_them_all(self):
    """But for two that have a paragraph of their own there."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "definitions.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page.split("**Other remedies.**")[1].split("**Packing.**")[0], re.M)
    message = "enter it in the table of other remedies in docs/definitions.md: | `Name` | in the loss | nothing at |"
    self.assertCountEqual(rows, KINDS.keys() - {"LabelNoise", "MarginLoss"}, message)


def _data(leaf) -> np.ndarray:
  """Of an array, or of typed keys."""
  return np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


if __name__ == "__main__":
  absltest.main()
