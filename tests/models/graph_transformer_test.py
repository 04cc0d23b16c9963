"""The student with a graph network: who reads what, alone as together, random features, sizes, other machines."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation.settings import at_temperatures
from loopjax.models import decoding, graph_transformer, transformer
from loopjax.models.graph_transformer import GraphTransformer, matched
from loopjax.models.transformer import Transformer
from loopjax.runtime import config as configs
from loopjax.runtime import devices, seeds
from loopjax.star_graph import encoding, rollouts, student_functions, students, teacher
from loopjax.star_graph.encoding import Row
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, task_state, teacher_forcing
from loopjax.star_graph.rollouts import Asked, sample_problems
from loopjax.star_graph.streams import stream_length
from loopjax.training.step import Training
from tests.models.students import random_batch, random_params, sample_packed, shapes_of, walks_alone
from tests.remedies import cases
from tests.remedies.groups_test import assert_comes_back

TASK = StarGraph(num_chains=3, chain_length=2, spare_labels=2, max_steps=12, explore_prob=0.5)
PLAIN = Transformer(num_layers=1, num_heads=2, width=16)
GRAPH = GraphTransformer(num_layers=1, num_heads=2, width=16, graph_rounds=2, node_width=4)
RANDOM = dataclasses.replace(GRAPH, random_features=3)
TRAINING = Training(num_steps=3, rows_per_step=4, warmup_steps=0, stream_length=24)
OWN_PARAMETERS = ("graph_network", "node_in", "node_query")


@functools.cache
def packed() -> Row:
  """Packed teacher rows [3, ...] with random bits."""
  rows = sample_packed(TASK, 3, 2, 3 * stream_length(TASK))
  draws = np.random.default_rng(0).integers(2**32, size=rows.segments.shape, dtype=np.uint32)
  return rows._replace(draws=jnp.asarray(draws))


@functools.cache
def logits_of(model: Transformer = RANDOM, seed: int = 0):
  """Rows -> logits, of parameters without structure."""
  params = random_params(model, TASK, seed)
  return jax.jit(lambda rows: transformer.apply(model, TASK, params, rows).logits)


class ConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"node_width": 0}, r"^model\.node_width=0 .* at least 1$"),
    ({"graph_rounds": -1}, r"^model\.graph_rounds=-1 .* at least 0$"),
    ({"random_features": -1}, r"^model\.random_features=-1 .* at least 0$"),
    ({"width": 30}, r"^model\.width=30 .* divisible by model\.num_heads=4$"),
  )
  def test_errors_name_field_value_and_what_is_allowed(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      GraphTransformer(**changes)

  @parameterized.parameters(PLAIN, GRAPH, RANDOM)
  def test_json(self, model):
    found = graph_transformer.from_json(configs.to_json(model), "model")
    self.assertEqual((found, type(found)), (model, type(model)))

  def test_the_plain_student_is_called_what_it_was(self):
    """Else its folders would belong to another run."""
    fields = ["num_layers", "num_heads", "width", "mlp_ratio", "positions", "prompt_attention", "matmul_dtype", "remat"]
    self.assertEqual(list(configs.to_json(PLAIN)), fields)


class WhoReadsWhatTest(absltest.TestCase):
  def test_logits_read_the_prompt_and_their_own_walks_past_and_nothing_else(self):
    """Every input in its turn becomes another label, and a goal where it was none: bit for bit elsewhere nothing moves.

    What the first input of a walk is, its goal, is read by the whole walk, through the graph network as well.
    """
    rows = jax.tree.map(lambda field: field[0, :, : stream_length(TASK)], packed()._replace(prompt=None, labels=None))
    prompt, labels = packed().prompt[0], packed().labels[0]
    places = [(r, t) for r, t in np.ndindex(rows.segments.shape)]
    inputs = np.stack([np.asarray(rows.inputs)] * len(places))
    draws = np.stack([np.asarray(rows.draws)] * len(places))
    for i, (r, t) in enumerate(places):
      is_goal = inputs[i, r, t, 1] == encoding.goal_id(TASK)
      changed = encoding.null_id(TASK) if is_goal else encoding.goal_id(TASK)
      inputs[i, r, t] = (inputs[i, r, t, 0] + 1) % TASK.vocabulary_size, changed
      draws[i, r, t] += 1
    same = jax.tree.map(lambda field: jnp.stack([field] * len(places)), rows._replace(prompt=prompt, labels=labels))
    before = np.asarray(logits_of()(same))
    after = np.asarray(logits_of()(same._replace(inputs=jnp.asarray(inputs), draws=jnp.asarray(draws))))
    moved, segments = np.any(before != after, axis=-1), np.asarray(rows.segments)
    expected = np.zeros_like(moved)
    for i, (r, t) in enumerate(places):
      expected[i, r, t:] = segments[r, t:] == segments[r, t]
    np.testing.assert_array_equal(moved, expected)

  def test_a_packed_walk_has_the_logits_it_has_alone(self):
    alone, where = walks_alone(packed(), stream_length(TASK))
    self.assertGreater(len(where), 20)
    together, apart = np.asarray(logits_of()(packed())), np.asarray(logits_of()(alone))
    for i, (row, stream, positions) in enumerate(where):
      np.testing.assert_allclose(together[row, stream, positions], apart[i, 0, : len(positions)], atol=1e-4)

  def test_a_row_alone_as_in_a_batch(self):
    together = np.asarray(logits_of()(packed()))
    for row in range(3):
      alone = logits_of()(jax.tree.map(lambda field, row=row: field[row : row + 1], packed()))
      np.testing.assert_allclose(alone[0], together[row], atol=1e-5)

  def test_all_walks_of_a_packed_row_have_a_place(self):
    for task in (TASK, dataclasses.replace(TASK, goal_hidden=True, chain_length=1, reset_prob=0.0, explore_prob=0.0)):
      rows = sample_packed(task, 3, 2, 3 * stream_length(TASK))
      self.assertLess(rows.segments.max(), graph_transformer.most_walks(task, rows.segments.shape[-1]))

  def test_the_goal_changes_the_logits_through_the_graph_network(self):
    """The same walk to another goal, whose token is embedded as the first one's: nothing else differs."""
    params = dict(random_params(GRAPH, TASK))
    params["first_embedding"] = jnp.broadcast_to(params["first_embedding"][:1], params["first_embedding"].shape)
    rows = packed()
    is_goal = np.asarray(rows.inputs[..., 1] == encoding.goal_id(TASK))
    other = jnp.where(is_goal, (rows.inputs[..., 0] + 1) % TASK.vocabulary_size, rows.inputs[..., 0])
    for model, moves in ((GRAPH, True), (PLAIN, False)):
      own = {name: leaf for name, leaf in params.items() if moves or name not in OWN_PARAMETERS}
      apply = jax.jit(lambda rows, model=model, own=own: transformer.apply(model, TASK, own, rows).logits)
      difference = np.abs(apply(rows) - apply(rows._replace(inputs=rows.inputs.at[..., 0].set(other)))).max(-1)
      self.assertEqual(bool((difference > 1e-3).mean() > 0.9), moves)


class RandomFeaturesTest(absltest.TestCase):
  def test_training_rows_have_the_bits_of_their_keys(self):
    keys, state = jax.random.split(jax.random.key(0), 4), task_state(TASK, TRAINING)

    def sample(model):
      objective = teacher_forcing(teacher.sizes_of(TASK), model, TRAINING)
      return cases.jit(jax.vmap(lambda key: objective.sample(key, state, ())))(keys)

    plain, drawn = sample(GRAPH), sample(RANDOM)
    self.assertIsNone(plain.draws)
    self.assertEqual(len(np.unique(drawn.draws)), drawn.segments.size)
    jax.tree.map(np.testing.assert_array_equal, plain, drawn._replace(draws=None))

  def test_rows_without_bits_are_refused(self):
    with self.assertRaisesRegex(ValueError, r"^model\.random_features=3 .* 0 where rows have no draws"):
      logits_of()(packed()._replace(draws=None))

  def test_they_are_read_where_there_are_any(self):
    other = packed()._replace(draws=packed().draws + 1)
    self.assertTrue((np.abs(logits_of()(packed()) - logits_of()(other)).max(-1) > 1e-4).all())
    np.testing.assert_array_equal(logits_of(GRAPH)(packed()), logits_of(GRAPH)(other))

  def test_at_temperature_zero_columns_walk_apart_by_them_alone(self):
    probabilities, generation = teacher.teacher_probabilities(TASK), at_temperatures([0.0] * 6)

    def walk(model):
      params, problems = random_params(model, TASK), sample_problems(TASK, jax.random.key(0), 8, 6)
      student = student_functions.functions_of(model, TASK)
      asked = Asked(TASK, student, params, probabilities, problems, generation.processors, generation.traced())
      walked = rollouts.advance(asked, rollouts.begin(asked, jax.random.key(1)), num_steps=TASK.max_steps - 1)
      return rollouts.finish(TASK, probabilities, problems, walked).nodes

    graph, drawn = (np.asarray(cases.jit(walk, static_argnums=0)(model)) for model in (GRAPH, RANDOM))
    np.testing.assert_array_equal(np.ptp(graph, axis=1), 0)
    self.assertTrue(np.ptp(drawn, axis=1).any())

  def test_walks_differ_by_graph_number_and_column(self):
    prompts = jnp.asarray(packed().prompt)[np.array([0, 0, 1])]
    draws = np.asarray(cases.jit(graph_transformer.walking_draws, static_argnums=1)(prompts, 5))
    self.assertEqual(len(np.unique(draws)), 15)
    again = cases.jit(graph_transformer.walking_draws, static_argnums=1)(prompts[:2], 5)
    np.testing.assert_array_equal(draws[:2], again)

  def test_walks_begin_with_their_goals(self):
    cache = decoding.empty_cache(RANDOM, 1, 1, 4)
    with self.assertRaisesRegex(ValueError, "walks are not begun by `decoding.read_goals`"):
      decoding.decode_step(RANDOM, TASK, {}, jnp.zeros((1, 1, 2), jnp.int32), jnp.int32(0), None, cache)


class TrainingTest(absltest.TestCase):
  def test_seeds_alone_as_in_a_group_and_they_come_back(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    mesh = devices.device_mesh()
    train = lambda model, numbers, folder=None: students.train_students(
      [TASK], model, TRAINING, numbers, mesh, folder=folder
    )
    with mock.patch.object(seeds, "map_seeds", functools.partial(seeds.map_seeds, brief=True)):  # compiles quickly
      group, alone = train(RANDOM, (4, 7), folder), train(RANDOM, (7,))
      with self.assertRaisesRegex(ValueError, "model.random_features"):
        train(GRAPH, (4, 7), folder)
    for found, expected in zip(jax.tree.leaves(alone.state.params), jax.tree.leaves(group.state.params), strict=True):
      np.testing.assert_array_equal(found[0], expected[1])
    self.assertTrue(group.is_finite.all())
    assert_comes_back(group, folder)
    self.assertEqual(students.load_students(folder, mesh).model, RANDOM)

  def test_initial_parameters_are_those_of_the_plain_student_and_more(self):
    init = lambda model: cases.jit(lambda key: transformer.init_params(model, TASK, key))(jax.random.key(3))
    plain, graph = init(PLAIN), init(RANDOM)
    self.assertEqual(set(graph) - set(plain), set(OWN_PARAMETERS))
    jax.tree.map(np.testing.assert_array_equal, plain, {name: graph[name] for name in plain})

  def test_every_parameter_is_trained(self):
    loss = teacher_forcing(TASK, RANDOM, TRAINING).loss
    gradient = jax.jit(jax.grad(lambda params: loss(params, packed(), jax.random.key(0), ())[0]))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(random_params(RANDOM, TASK))):
      self.assertGreater(np.abs(leaf).max(), 1e-4, jax.tree_util.keystr(path))


class SizeTest(parameterized.TestCase):
  PLAIN = Transformer(num_layers=2, positions="none", prompt_attention="bidirectional")

  @parameterized.parameters((StarGraph(4, 2, max_steps=32), 0), (StarGraph(5, 3), 0), (StarGraph(5, 3), 4))
  def test_few_parameters_more_than_the_plain_student(self, task, num_features):
    graph = matched(self.PLAIN, task, random_features=num_features)
    count = lambda model: sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model, task)))
    more, rounds, d, width = count(graph) - count(self.PLAIN), task.chain_length, graph.node_width, self.PLAIN.width
    self.assertEqual(more, (2 + num_features) * d + rounds * (3 * d * d + d) + d + 2 * d * width)
    print(f"graph network: {more / count(self.PLAIN):.1%} of the plain student's parameters")
    self.assertLess(more / count(self.PLAIN), 0.02)

  def test_few_operations_more_than_the_plain_student(self):
    task = StarGraph(5, 3)
    batch = random_batch(task, 4, 1)._replace(draws=jnp.zeros((4, 1, stream_length(task)), jnp.uint32))

    def operations(model):
      loss = lambda params, batch: jnp.sum(transformer.apply(model, task, params, batch).logits ** 2)
      return cases.jit(jax.grad(loss)).lower(shapes_of(model, task), batch).compile().cost_analysis()["flops"]

    more = operations(matched(self.PLAIN, task, random_features=4)) / operations(self.PLAIN) - 1
    print(f"graph network: {more:.1%} more operations in forward and backward pass")
    self.assertBetween(more, 0.0, 0.08)


class OtherMachinesTest(parameterized.TestCase):
  def test_bfloat16_products(self):
    narrow = dataclasses.replace(RANDOM, matmul_dtype="bfloat16")
    np.testing.assert_allclose(logits_of(narrow)(packed()), logits_of()(packed()), atol=0.1)

  @parameterized.parameters("tpu", "cuda")
  def test_training_and_rollouts_lower(self, platform):
    model = dataclasses.replace(RANDOM, matmul_dtype="bfloat16")
    params, sizes = shapes_of(model, TASK), teacher.sizes_of(TASK)
    objective, state = MaximumLikelihood().build(sizes, model, TRAINING), task_state(TASK, TRAINING)

    def step(params, data):
      keys = jax.random.split(jax.random.wrap_key_data(data), 2)  # serialised programs take no typed keys
      batch = jax.vmap(lambda key: objective.sample(key, state, ()))(keys)
      return jax.grad(lambda params: objective.loss(params, batch, keys[0], ())[0])(params)

    def roll_out(params, data):
      problems = sample_problems(TASK, jax.random.wrap_key_data(data), 4, 2)
      student, generation = student_functions.functions_of(model, sizes), at_temperatures((0.0, 1.0))
      given = params, state.probabilities, problems, generation.processors, generation.traced()
      begun = rollouts.begin(Asked(sizes, student, *given), jax.random.wrap_key_data(data))
      return rollouts.advance(Asked(sizes, student, *given), begun, num_steps=4).tokens

    data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    for function in (step, roll_out):
      exported = jax.export.export(jax.jit(function), platforms=[platform])(params, data)
      self.assertEqual(exported.platforms, (platform,))


if __name__ == "__main__":
  absltest.main()
