"""Training: the loss, learning, chunks, weight decay, a batch split over devices, packing, and lowering for others."""

from __future__ import annotations

import dataclasses
import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized
from jax.sharding import AxisType, PartitionSpec

from loopjax.generation.settings import at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.star_graph import rollouts, student_functions, teacher, theory
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import (
  fresh_student,
  injected_positions,
  position_histogram,
  row_length,
  task_state,
  teacher_forcing,
)
from loopjax.star_graph.rollouts import Asked, sample_problems
from loopjax.star_graph.streams import stream_length
from loopjax.training.step import Objective, Training, TrainState, cross_entropy, make_optimizer, run_chunk, train_step
from tests.compiling import jit_fast
from tests.models.students import random_params, sample_packed, walks_alone
from tests.star_graph import brute_force

TASK = StarGraph(num_chains=2, chain_length=1, spare_labels=2, max_steps=8, explore_prob=0.5)
MODEL = Transformer(num_layers=2, num_heads=2, width=16)
TRAINING = Training(num_steps=150, rows_per_step=32, stream_length=16, learning_rate=0.02, warmup_steps=10)
PAPER = Transformer(num_layers=12, num_heads=12, width=768, matmul_dtype="bfloat16")
PAPER_TASK = StarGraph(num_chains=5, chain_length=5, spare_labels=73)


@functools.cache
def fresh_state() -> TrainState:
  traced = task_state(TASK, TRAINING)
  return jax.jit(lambda key: fresh_student(TASK, MODEL, key, traced, ()))(jax.random.key(3))


@functools.cache
def compiled_chunk():
  objective = teacher_forcing(TASK, MODEL, TRAINING)
  return jax.jit(lambda state, num_steps: run_chunk(objective, TRAINING, state, num_steps))


def assert_same_bits(found, expected):
  for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      np.testing.assert_array_equal(jax.random.key_data(a), jax.random.key_data(b))
    else:
      np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


class ValidationTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"num_steps": 0}, r"^training\.num_steps=0 .* at least 1$"),
    ({"rows_per_step": 0}, r"^training\.rows_per_step=0 .* at least 1$"),
    ({"streams_per_row": -1}, r"^training\.streams_per_row=-1 .* at least 1$"),
    ({"stream_length": -1}, r"^training\.stream_length=-1 .* at least 0$"),
    ({"warmup_steps": -1}, r"^training\.warmup_steps=-1 .* at least 0$"),
    ({"weight_decay": -0.1}, r"^training\.weight_decay=-0\.1 .* at least 0$"),
    ({"learning_rate": 0.0}, r"^training\.learning_rate=0\.0 .* above 0$"),
    ({"clip_norm": 0.0}, r"^training\.clip_norm=0\.0 .* above 0$"),
  )
  def test_errors_name_field_value_and_what_is_allowed(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      Training(**changes)

  def test_the_longest_walk_must_fit_into_a_stream(self):
    self.assertEqual(row_length(TASK, Training()), 8)  # the goal and all nodes but the last
    self.assertEqual(row_length(dataclasses.replace(TASK, goal_hidden=True), Training()), 7)
    self.assertEqual(row_length(TASK, Training(stream_length=9)), 9)
    with self.assertRaisesRegex(ValueError, r"^training\.stream_length=7 .* at least 8 positions"):
      row_length(TASK, Training(stream_length=7))


class LossTest(absltest.TestCase):
  def test_cross_entropy_as_in_optax(self):
    logits = 5 * jax.random.normal(jax.random.key(0), (3, 4, 7))
    targets = jax.random.randint(jax.random.key(1), (3, 4), 0, 7)
    expected, pull_expected = jax.vjp(lambda x: optax.softmax_cross_entropy_with_integer_labels(x, targets), logits)
    found, pull = jax.vjp(lambda x: cross_entropy(x, targets), logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(pull(expected)[0], pull_expected(expected)[0], atol=1e-5)

  def test_a_fresh_student_knows_nothing_and_a_trained_one_nearly_what_the_teacher_leaves_open(self):
    run, state = compiled_chunk(), fresh_state()
    state, first = run(state, 1)
    # Fresh logits have variance 1: E[-log q] = log V + about 1/2.
    self.assertAlmostEqual(float(first.loss), math.log(TASK.vocabulary_size), delta=0.8)
    state, _ = run(state, TRAINING.num_steps - 11)
    state, last = run(state, 10)
    self.assertEqual(int(state.step), TRAINING.num_steps)
    # The teacher's own entropy per move, exactly.
    entropy, moves = 0.0, 0.0
    for walk, probability in brute_force.enumerate_walks(TASK, 0):
      for i in range(1, len(walk)):
        entropy -= probability * math.log(brute_force.teacher_distribution(TASK, 0, walk[:i])[walk[i]])
        moves += probability
    floor = entropy / moves
    print(f"loss: {first.loss:.3f} at first, {last.loss:.3f} in the end, the teacher's entropy {floor:.3f}")
    self.assertAlmostEqual(floor, theory.teacher_loss(TASK), places=6)
    self.assertGreater(float(last.loss), floor - 0.05)
    self.assertLess(float(last.loss), floor + 0.3 * (float(first.loss) - floor))


class ChunkTest(absltest.TestCase):
  def test_chunks_of_any_length_give_the_same_state_bit_for_bit(self):
    run = compiled_chunk()
    whole, _ = run(fresh_state(), 12)
    part, _ = run(fresh_state(), 5)
    self.assertEqual(int(part.step), 5)
    parts, _ = run(part, 7)
    assert_same_bits(parts, whole)
    self.assertFalse(np.array_equal(part.params["head"]["kernel"], whole.params["head"]["kernel"]))

  def test_metrics_are_means_over_the_chunk(self):
    run, state, single = compiled_chunk(), fresh_state(), []
    _, mean = run(state, 3)
    for _ in range(3):
      state, metrics = run(state, 1)
      single.append(metrics)
    self.assertGreater(np.ptp([float(metrics.loss) for metrics in single]), 1e-3)
    expected = jax.tree.map(lambda *leaves: np.mean(leaves), *single)
    np.testing.assert_allclose(np.array(mean), np.array(expected), rtol=1e-5)


class OptimizerTest(parameterized.TestCase):
  def test_only_matrices_are_decayed(self):
    """Without gradients AdamW only decays: matrices by 1 - rate x decay each step, norm scales not at all."""
    config = Training(num_steps=100, learning_rate=0.01, warmup_steps=10, weight_decay=0.5)
    loss = lambda params, batch, key, extra: (0.0 * sum(map(jnp.sum, jax.tree.leaves(params))), jnp.float32(1), extra)
    objective = Objective(sample=lambda key, state, extra: jnp.zeros(()), loss=loss)
    params = random_params(MODEL, TASK)
    optimizer = make_optimizer(config)
    state = TrainState(jnp.int32(0), params, optimizer.init(params), jax.random.key(0), (), ())
    state, _ = jax.jit(lambda state: run_chunk(objective, config, state, 20))(state)

    rates = [0.01 * i / 10 for i in range(10)] + [0.005 * (1 + math.cos(math.pi * i / 90)) for i in range(10)]
    shrunk = math.prod(1 - 0.5 * rate for rate in rates)
    for path, before in jax.tree_util.tree_leaves_with_path(params):
      after = functools.reduce(lambda tree, key: tree[key.key], path, state.params)
      expected = before if path[-1].key == "scale" else before * shrunk
      np.testing.assert_allclose(after, expected, rtol=1e-5, err_msg=jax.tree_util.keystr(path))

  def test_after_an_update_the_objective_sees_the_new_student_with_a_key_of_its_own(self):
    config = Training(num_steps=10, rows_per_step=1, learning_rate=0.1, warmup_steps=0, weight_decay=0)

    def after_update(params, extra, key):
      return {"w": params["w"], "count": extra["count"] + 1, "drawn": jax.random.uniform(key)}

    loss = lambda params, batch, key, extra: (params["w"], jnp.float32(1), extra)
    objective = Objective(lambda key, state, extra: jnp.zeros(()), loss, after_update)
    params, extra = {"w": jnp.ones(())}, {"w": jnp.ones(()), "count": jnp.int32(0), "drawn": jnp.float32(0)}
    state = TrainState(jnp.int32(0), params, make_optimizer(config).init(params), jax.random.key(0), (), extra)
    step, drawn = jax.jit(lambda state: train_step(objective, config, state)[0]), []
    for number in range(1, 4):
      state = step(state)
      self.assertLess(state.params["w"], 1)
      self.assertEqual((float(state.extra["w"]), int(state.extra["count"])), (float(state.params["w"]), number))
      drawn.append(float(state.extra["drawn"]))
    self.assertLen(set(drawn), 3)

  def test_gradients_are_means_over_positions_and_clipped(self):
    """The loss is g.w summed over 8 rows, each of weight 4: the mean's gradient is g / 4, and clipping sees it."""
    config = Training(num_steps=10, rows_per_step=8, learning_rate=0.1, warmup_steps=0, weight_decay=0, clip_norm=0.5)
    slope = jnp.array([12.0, -16.0])  # norm 20, the mean's 5

    def loss(params, batch, key, extra):
      return jnp.sum(batch) * jnp.dot(slope, params["w"]), 4.0 * jnp.sum(batch), extra

    params = {"w": jnp.array([1.0, 2.0])}
    objective = Objective(lambda key, state, extra: jnp.float32(1), loss)
    state = TrainState(jnp.int32(0), params, make_optimizer(config).init(params), jax.random.key(0), (), ())
    state, metrics = train_step(objective, config, state)
    self.assertAlmostEqual(float(metrics.loss), -20 / 4, places=5)
    self.assertAlmostEqual(float(metrics.gradient_norm), 5, places=5)
    self.assertAlmostEqual(float(metrics.trained_positions), 32, places=5)
    adam = next(s for s in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(s, "mu"))
    np.testing.assert_allclose(adam.mu["w"], 0.1 * np.array([0.3, -0.4]), rtol=1e-5)  # of norm 0.5, one tenth of it
    np.testing.assert_allclose(state.params["w"], params["w"] - 0.1 * jnp.sign(slope), rtol=1e-4)


def data_mesh():
  return jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))


class DataAxisTest(absltest.TestCase):
  def test_a_batch_over_four_devices_gives_the_step_of_one(self):
    objective = teacher_forcing(TASK, MODEL, TRAINING)

    def chunk(state, num_steps):
      return run_chunk(objective, TRAINING, state, num_steps, data_axis="data")

    replicated = PartitionSpec()
    run = jax.jit(jax.shard_map(
      chunk, mesh=data_mesh(), in_specs=(replicated, replicated), out_specs=replicated, check_vma=False
    ))  # fmt: skip
    found, found_metrics = run(fresh_state(), jnp.int32(3))
    expected, expected_metrics = compiled_chunk()(fresh_state(), 3)
    np.testing.assert_allclose(np.array(found_metrics), np.array(expected_metrics), rtol=1e-4)
    differences = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), found.params, expected.params)
    print(f"data axis, 3 steps: max |parameter difference| {max(jax.tree.leaves(differences)):.1e}")
    self.assertLess(max(jax.tree.leaves(differences)), 1e-5)
    for leaf in jax.tree.leaves(found.params):  # every device holds the same
      for shard in leaf.addressable_shards[1:]:
        np.testing.assert_array_equal(shard.data, leaf.addressable_shards[0].data)

  def test_the_batch_is_the_same_however_many_devices_draw_it(self):
    config = dataclasses.replace(TRAINING, rows_per_step=8)

    def loss(params, batch, key, extra):
      return params["w"] * jnp.sum(batch), jnp.float32(1), batch  # the batch is seen through the extra state

    objective = Objective(lambda key, state, extra: jax.random.uniform(key, (3,)), loss)
    params = {"w": jnp.ones(())}
    optimizer = make_optimizer(config).init(params)
    state = TrainState(jnp.int32(4), params, optimizer, jax.random.key(0), (), jnp.zeros((8, 3)))
    step = lambda data_axis: lambda state: train_step(objective, config, state, data_axis=data_axis)[0].extra
    expected = step(None)(state)
    replicated = PartitionSpec()
    found = jax.jit(jax.shard_map(
      step("data"), mesh=data_mesh(), in_specs=(replicated,), out_specs=PartitionSpec("data"), check_vma=False
    ))(state)  # fmt: skip
    np.testing.assert_array_equal(found, expected)
    self.assertLen(np.unique(expected), 24)  # no two rows alike
    after = step(None)(state._replace(step=jnp.int32(5), extra=jnp.zeros((8, 3))))
    self.assertLen(np.unique([expected, after]), 48)  # and none again at the next step


@functools.cache
def jitted_histogram(task: StarGraph, config: Training):
  """Of a key and a task's state, over 4000 rows."""
  return jit_fast(lambda key, state: position_histogram(task, config, key, state, rows=4000))


class PositionHistogramTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_unpacked_rows_give_the_exact_survival_shares(self, goal_hidden):
    task = dataclasses.replace(TASK, chain_length=2, goal_hidden=goal_hidden)
    streams, rows = 4, 1000
    config = Training(streams_per_row=streams, packed=False)
    state = task_state(task, config)
    histogram = jit_fast(lambda key: position_histogram(task, config, key, state, rows=rows))(jax.random.key(0))
    self.assertEqual(histogram.shape, (task.max_steps - 1,))
    self.assertAlmostEqual(float(jnp.sum(histogram)), 1, places=5)

    walks = list(brute_force.enumerate_walks(task, 0))
    probability = np.array([p for _, p in walks])
    moves = np.array([len(walk) - 1 for walk, _ in walks])
    reached = moves[:, None] > np.arange(task.max_steps - 1)  # whether the walk moves on from this position
    mean_moves = probability @ moves
    share = probability @ reached / mean_moves
    error = np.sqrt(probability @ (reached - share * moves[:, None]) ** 2 / (rows * streams)) / mean_moves
    deviation = np.abs(np.asarray(histogram) - share) / error
    print(f"position histogram: largest deviation {deviation.max():.1f} standard errors of at most {error.max():.4f}")
    self.assertLess(deviation.max(), 4)
    self.assertGreater(np.ptp(share), 20 * error.max())

  @parameterized.parameters(dict(reset_prob=0.0, explore_prob=1.0), dict(explore_prob=0.7))
  def test_packed_rows_give_the_exact_survival_shares_too(self, **settings):
    """Within 3% at every tenth of the walk; without the weights of positions the last ones are shown half as often."""
    task = StarGraph(num_chains=5, chain_length=3, max_steps=64, **settings)
    config = Training(streams_per_row=16)
    histogram = jitted_histogram(teacher.sizes_of(task), config)
    state = task_state(task, config)
    packed = np.asarray(histogram(jax.random.key(0), state), np.float64)
    unweighted = np.asarray(histogram(jax.random.key(0), state._replace(position_weights=jnp.ones(63))), np.float64)
    shown = 1 - np.cumsum(theory.walk_lengths(task))[1:-1]  # P(more than j + 1 nodes)
    exact = shown / shown.sum()

    tenths = np.array_split(np.arange(63), 10)
    ratios, old_ratios = ([found[t].sum() / exact[t].sum() for t in tenths] for found in (packed, unweighted))
    late = [found[40:].sum() for found in (exact, packed, unweighted)]
    print(f"from position 40 on: exact {late[0]:.4f}, packed {late[1]:.4f}, without weights {late[2]:.4f}")
    print(f"by tenth, over the exact: {np.round(ratios, 3)}, without weights {np.round(old_ratios, 3)}")
    np.testing.assert_allclose(ratios, 1, atol=0.03)
    self.assertLess(old_ratios[-1], 0.5)


class PackingTest(absltest.TestCase):
  def test_the_summed_loss_does_not_depend_on_the_arrangement(self):
    longest = stream_length(TASK)
    packed = sample_packed(TASK, 8, 2, 3 * longest)
    alone, where = walks_alone(packed, longest)
    self.assertGreater(len(where), 8 * 2 * 2)
    loss = teacher_forcing(TASK, MODEL, TRAINING).loss
    params = random_params(MODEL, TASK)

    evaluate = jax.jit(lambda params, batch: loss(params, batch, jax.random.key(0), ())[:2])
    (total, weight), (total_alone, weight_alone) = evaluate(params, packed), evaluate(params, alone)
    self.assertEqual(float(weight), float(weight_alone))
    self.assertEqual(float(weight), float(np.sum(packed.weights)))
    print(f"packed against alone: relative difference of the loss {total / total_alone - 1:.1e}")
    self.assertAlmostEqual(float(total / total_alone), 1, delta=1e-5)


class ExportTest(parameterized.TestCase):
  """Lowering for machines that are not here; shapes alone, nothing is allocated."""

  def abstract_state(self, task, model, config):
    make = lambda key: fresh_student(task, model, key, task_state(task, config), ())
    return jax.eval_shape(make, jax.random.key(0))

  def export(self, function, platform, *arguments):
    began = time.monotonic()
    exported = jax.export.export(jax.jit(function), platforms=[platform])(*arguments)
    print(f"export for {platform}: {time.monotonic() - began:.1f} s, {len(exported.mlir_module()) / 1e6:.1f} MB")
    self.assertEqual(exported.platforms, (platform,))
    return exported

  @parameterized.parameters("tpu", "cuda")
  def test_training_and_rollouts_of_the_papers_student_lower(self, platform):
    task, model = PAPER_TASK, PAPER
    config = dataclasses.replace(TRAINING, stream_length=0)
    objective = teacher_forcing(task, model, config)
    state = self.abstract_state(task, model, config)
    data = jax.eval_shape(jax.random.key_data, state.key)  # serialised programs take no typed keys

    def step(state, data):
      state, metrics = train_step(objective, config, state._replace(key=jax.random.wrap_key_data(data)))
      return state._replace(key=()), metrics

    exported = self.export(step, platform, state._replace(key=()), data)
    shapes = lambda avals: [aval.shape for aval in avals]
    self.assertEqual(shapes(exported.out_avals[:-3]), shapes(exported.in_avals[:-1]))  # metrics out, key data in

    def roll_out(params, data):
      problem_key, walk_key = jax.random.split(jax.random.wrap_key_data(data))
      problems, probabilities = sample_problems(task, problem_key, 4, 2), teacher.teacher_probabilities(task)
      student, generation = student_functions.functions_of(model, task), at_temperatures((0.0, 1.0))
      asked = Asked(task, student, params, probabilities, problems, generation.processors, generation.traced())
      continuations = rollouts.advance(asked, rollouts.begin(asked, walk_key), num_steps=16)
      return rollouts.finish(task, probabilities, problems, continuations).nodes

    exported = self.export(roll_out, platform, state.params, data)
    self.assertEqual(exported.out_avals[0].shape, (4, 2, task.max_steps))


@functools.cache
def jitted_injected_positions(config: Training):
  """Of a key and a task's state, over 4096 streams of child loops."""
  task = dataclasses.replace(teacher.sizes_of(TASK), injected_kind="child")
  return jit_fast(lambda key, state: injected_positions(task, config, key, state, rows=4096))


class InjectedPositionsTest(parameterized.TestCase):
  @parameterized.product(share=(0.0, 0.2, 1.0), packed=(True, False))
  def test_against_exact_lengths(self, share, packed):
    """Every walk counts but its last node: an injected one has max_steps, a teacher's as many as theory says.

    Packed or not: what the end of a stream cuts of loops, which are the longest walks, their weights make up for.
    """
    task = dataclasses.replace(TASK, injected_share=share, injected_kind="child")
    config = dataclasses.replace(TRAINING, packed=packed)
    found = jitted_injected_positions(config)(jax.random.key(0), task_state(task, config))
    clean = theory.teacher_statistics(dataclasses.replace(task, injected_share=0.0)).response_length - 1
    want = share * (task.max_steps - 1) / (share * (task.max_steps - 1) + (1 - share) * clean)
    print(f"share {share}, packed {packed}: {found:.4f} of the positions, exact {want:.4f}")
    self.assertAlmostEqual(float(found), want, delta=4 * 0.5 / math.sqrt(4096) if 0 < share < 1 else 1e-6)

  def test_without_weights_packed_streams_show_loops_too_seldom(self):
    """The longest walks are those that the end of a stream cuts: so it was before the weights. 1% of G(5,3)'s walks."""
    task = StarGraph(5, 3, max_steps=64, explore_prob=0.7, injected_share=0.01)
    config = Training()
    measure = jit_fast(lambda key, state: injected_positions(teacher.sizes_of(task), config, key, state, rows=60_000))
    state, key = task_state(task, config), jax.random.key(0)
    found, old = (float(measure(key, of)) for of in (state, state._replace(position_weights=jnp.ones(63))))
    clean = theory.teacher_statistics(dataclasses.replace(task, injected_share=0.0)).response_length - 1
    exact = 0.01 * 63 / (0.01 * 63 + 0.99 * clean)
    print(f"1% injected walks: exact {exact:.4f} of the positions, packed {found:.4f}, without weights {old:.4f}")
    self.assertAlmostEqual(found / exact, 1, delta=0.15)
    self.assertLess(old / exact, 0.85)


if __name__ == "__main__":
  absltest.main()
