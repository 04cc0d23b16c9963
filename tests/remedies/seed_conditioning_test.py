"""Seed-conditioning: which tokens are told seeds, one a walk or one a return, and that students walk by them."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from absl.testing import absltest, parameterized

from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.remedies import seed_conditioning
from loopjax.remedies.seed_conditioning import EverySeed, SeedConditioned, SeededWalks
from loopjax.star_graph import encoding, rollouts, student_functions, teacher
from loopjax.star_graph.rollouts import Asked, sample_problems
from loopjax.training.step import Training
from tests.models.students import random_params
from tests.remedies import cases

SMALLEST_P = 1e-3  # keys are fixed: a test passes always or never
MODEL = seed_conditioning.with_seeds(Transformer(num_layers=1, num_heads=2, width=16), cases.SHORT)


@functools.cache
def told(once: str, share: float) -> encoding.Row:
  """The packed rows of `cases`, as one row of eight streams."""
  batch = cases.packed_batch(cases.SHORT)
  row = jax.tree.map(lambda field: field.reshape(-1, *field.shape[2:]), batch._replace(prompt=batch.labels))
  tell = cases.jit(seed_conditioning.tell_seeds, static_argnums=(0, 1, 5))
  found = tell(cases.SHORT, MODEL, row, jax.random.key(0), jnp.float32(share), once)
  shaped = found.inputs.reshape(batch.inputs.shape)
  return batch._replace(inputs=np.asarray(shaped))


class RowTest(parameterized.TestCase):
  @parameterized.product(once=("walk", "return"), share=(0.5, 1.0))
  def test_plain_python(self, once, share):
    task, plain, found = cases.SHORT, cases.packed_batch(cases.SHORT), told(once, share)
    changed = np.argwhere(found.inputs != plain.inputs)
    places = {place for walk in cases.walks_of(plain) for place in walk if plain.nodes[place] == 0}
    self.assertTrue(all(tuple(place[:3]) in places and place[3] == 1 for place in changed))
    seeded, several = 0, 0
    walks = [[place for place in walk if plain.nodes[place] == 0] for walk in cases.walks_of(plain)]
    for starts in filter(None, walks):
      seconds = [int(found.inputs[place][1]) for place in starts]
      is_told = seconds[0] != encoding.null_id(task)
      self.assertTrue(all((second >= encoding.num_ids(task)) == is_told for second in seconds))  # a walk wholly or not
      seeded += is_told
      several += len(set(seconds)) > 1
    self.assertEqual(seeded == len(list(filter(None, walks))), share == 1.0)
    self.assertGreater(seeded, 5)
    self.assertEqual(several > 0, once == "return")

  def test_without_seeds_nothing_changes(self):
    np.testing.assert_array_equal(told("walk", 0.0).inputs, cases.packed_batch(cases.SHORT).inputs)

  def test_seeds_are_uniform(self):
    inputs = told("return", 1.0).inputs[..., 1]
    seeds = inputs[inputs >= encoding.num_ids(cases.SHORT)] - encoding.num_ids(cases.SHORT)
    counts = np.bincount(seeds, minlength=MODEL.spare_ids)
    self.assertLen(counts, MODEL.spare_ids)
    self.assertGreater(scipy.stats.chisquare(counts).pvalue, SMALLEST_P)

  def test_a_seed_is_no_edge_of_a_prompt(self):
    """A pair of labels is an edge: a seed that were a label would tell of one from s."""
    inputs, plain = told("return", 1.0).inputs, cases.packed_batch(cases.SHORT).inputs
    seconds = inputs[inputs[..., 1] != plain[..., 1]][:, 1]
    self.assertNoCommonElements(seconds.tolist(), range(encoding.num_ids(cases.SHORT)))

  def test_validation(self):
    plain = dataclasses.replace(MODEL, spare_ids=0)
    for make in (SeedConditioned, lambda model: SeededWalks().build(cases.SHORT, model, Training(num_steps=1))):
      with self.assertRaisesRegex(ValueError, r"^model\.spare_ids=0 .* at least 1"):
        make(plain)
    with self.assertRaisesRegex(ValueError, r"^objective\.share=1\.5 .* in \[0, 1\]$"):
      SeededWalks(1.5)
    with self.assertRaisesRegex(ValueError, r"^objective\.once='step' .* one of \('walk', 'return'\)$"):
      SeededWalks(once="step")
    with self.assertRaisesRegex(ValueError, r"^once='step' .* one of"):
      SeedConditioned(MODEL, "step")


class WalkTest(absltest.TestCase):
  def test_seeds_when_students_walk(self):
    """They differ from column to column and from graph to graph, and stay the same within a walk where they shall."""
    task = cases.SHORT
    problems = cases.jit(lambda key: sample_problems(task, key, 40, 25))(jax.random.key(0))
    seeds_of = cases.jit(lambda given, once: seed_conditioning.seeds_of(task, MODEL, given, once), static_argnums=1)
    by_walk, by_return = (
      np.asarray(seeds_of(problems, once)) for once in ("walk", "return")
    )  # fmt: skip
    self.assertEqual(by_walk.shape, (40, 25, task.max_steps))
    np.testing.assert_array_equal(np.ptp(by_walk, axis=-1), 0)
    np.testing.assert_array_equal(by_walk[..., 0], by_return[..., 0])
    for seeds in (by_walk[..., 0], by_return[0], by_return[:, 0]):
      counts = np.bincount(seeds.ravel() - encoding.num_ids(task), minlength=MODEL.spare_ids)
      self.assertGreater(scipy.stats.chisquare(counts).pvalue, SMALLEST_P)

  def test_at_temperature_zero_columns_walk_apart_by_their_seeds_alone(self):
    task, params = cases.SHORT, random_params(MODEL, cases.SHORT)
    probabilities, generation = teacher.teacher_probabilities(task), at_temperatures([0.0] * 6)

    def walk(model):
      problems = sample_problems(task, jax.random.key(0), 8, 6)
      student = student_functions.functions_of(model, task)
      asked = Asked(task, student, params, probabilities, problems, generation.processors, generation.traced())
      walked = rollouts.advance(asked, rollouts.begin(asked, jax.random.key(1)), num_steps=task.max_steps - 1)
      return rollouts.finish(task, probabilities, problems, walked).nodes

    plain, seeded = (np.asarray(cases.jit(walk, static_argnums=0)(model)) for model in (MODEL, SeedConditioned(MODEL)))
    np.testing.assert_array_equal(np.ptp(plain, axis=1), 0)
    self.assertTrue(np.ptp(seeded, axis=1).any())

  def test_every_seed_is_a_column_of_its_own(self):
    """What a student told seed k by `SeedConditioned` answers is what column k of `EverySeed` answers."""
    task, params = cases.SHORT, random_params(MODEL, cases.SHORT)
    probabilities, count = teacher.teacher_probabilities(task), task.vocabulary_size
    problems = cases.jit(lambda key: sample_problems(task, key, 3, 1))(jax.random.key(0))
    problems = problems._replace(goal_chain=jnp.repeat(problems.goal_chain, count, axis=1))
    walk = np.full((3, count, task.max_steps), teacher.PADDING, np.int32)
    walk[..., :3] = [0, 1, 0]

    def read(model):
      return student_functions.functions_of(model, task).read(params, probabilities, problems, walk)[:, :, :3]

    one, every = (
      np.asarray(cases.jit(read, static_argnums=0)(model)) for model in (SeedConditioned(MODEL), EverySeed(MODEL))
    )
    told = np.asarray(seed_conditioning.seeds_of(task, MODEL, problems, "walk"))[..., 0] - encoding.num_ids(task)
    np.testing.assert_allclose(one, np.take_along_axis(every, told[..., None, None], axis=1), atol=1e-5)
    self.assertGreater(np.ptp(every[:, :, 0], axis=1).max(), 1e-3)


if __name__ == "__main__":
  absltest.main()
