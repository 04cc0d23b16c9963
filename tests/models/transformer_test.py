"""The student: cached decoding against the full pass, who may read whom, packing, custom gradients, sizes, depth."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models import attention, decoding, transformer
from loopjax.models.transformer import Output, Transformer
from loopjax.star_graph import encoding
from loopjax.star_graph.encoding import Row
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.streams import stream_length
from tests.models.students import equations, random_batch, random_params, sample_packed, shapes_of, walks_alone

TASK = StarGraph(num_chains=3, chain_length=2, spare_labels=2, max_steps=12, explore_prob=0.5)
MODEL = Transformer(num_layers=2, num_heads=2, width=16)
PAPER = Transformer(num_layers=12, num_heads=12, width=768)


class ValidationTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"num_layers": 0}, r"^model\.num_layers=0 .* at least 1$"),
    ({"num_heads": 0}, r"^model\.num_heads=0 .* at least 1$"),
    ({"width": -4}, r"^model\.width=-4 .* at least 1$"),
    ({"mlp_ratio": 0}, r"^model\.mlp_ratio=0 .* at least 1$"),
    ({"width": 30, "num_heads": 4}, r"^model\.width=30 .* divisible by model\.num_heads=4$"),
    ({"width": 12, "num_heads": 4}, r"^model\.width=12 .* even multiple of model\.num_heads=4 for rotary positions$"),
    ({"positions": "absolute"}, r"^model\.positions='absolute' .* rotary, learned, none$"),
    ({"prompt_attention": "full"}, r"^model\.prompt_attention='full' .* causal, bidirectional$"),
    ({"matmul_dtype": "float16"}, r"^model\.matmul_dtype='float16' .* float32, bfloat16$"),
  )
  def test_errors_name_field_value_and_what_is_allowed(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      Transformer(**changes)

  def test_odd_head_widths_are_refused_for_rotary_positions_alone(self):
    self.assertEqual(Transformer(width=12, num_heads=4, positions="none").width, 12)


class CachedDecodingTest(parameterized.TestCase):
  @parameterized.parameters(
    ("rotary", "edge", False, "causal", "float32", 1e-5),
    ("rotary", "flat", True, "bidirectional", "float32", 1e-5),
    ("learned", "flat", False, "causal", "float32", 1e-5),
    ("none", "edge", True, "causal", "float32", 1e-5),
    ("rotary", "edge", False, "causal", "bfloat16", 0.05),
  )
  def test_position_by_position_as_the_full_pass(self, positions, form, goal_hidden, prompt_attention, dtype, within):
    task = dataclasses.replace(TASK, encoding=form, goal_hidden=goal_hidden)
    model = dataclasses.replace(MODEL, positions=positions, prompt_attention=prompt_attention, matmul_dtype=dtype)
    length = stream_length(task)
    batch, params = random_batch(task, 3, 2), random_params(model, task)

    @jax.jit
    def decode(params, batch):
      prompt = decoding.read_prompt(model, task, params, batch.prompt)

      def step(cache, index):
        tokens = batch.inputs[:, :, index]
        logits, cache = decoding.decode_step(model, task, params, tokens, index, prompt, cache)
        return cache, logits

      cache = decoding.empty_cache(model, 3, 2, length)
      return jnp.moveaxis(jax.lax.scan(step, cache, jnp.arange(length))[1], 0, 2)

    full = jax.jit(lambda params, batch: transformer.apply(model, task, params, batch).logits)(params, batch)
    difference = np.max(np.abs(decode(params, batch) - full))
    print(f"cached decoding, {positions}, {form}, {dtype}: max |logit difference| {difference:.2e}")
    self.assertLess(difference, within)
    self.assertGreater(np.std(full), 0.3)  # logits all alike would agree as well


def influence_batch(num_rows: int = 2, num_streams: int = 2, length: int = 6) -> tuple[StarGraph, Row]:
  """A batch in which every token has a label of its own: an input is then known by the gradient of its embedding.

  Streams hold walks of 1, 2 and 3 positions, arranged differently in each stream.
  """
  task = StarGraph(num_chains=2, chain_length=1, spare_labels=28, max_steps=length)
  num_prompt = encoding.prompt_length(task)
  per_row = num_prompt + num_streams * length
  labels = np.arange(num_rows * per_row).reshape(num_rows, per_row)
  pair = lambda first: jnp.asarray(np.stack([first, np.full_like(first, encoding.null_id(task))], axis=-1))
  segments = np.array([[[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 2, 2]], [[0, 0, 1, 1, 1, 2], [0, 1, 1, 2, 2, 2]]])
  first_of_walk = np.array([[[np.flatnonzero(s == w)[0] for w in s] for s in row] for row in segments])
  inputs = labels[:, num_prompt:].reshape(num_rows, num_streams, length)
  zeros = jnp.zeros(inputs.shape, jnp.int32)
  row = Row(
    prompt=pair(labels[:, :num_prompt]),
    inputs=pair(inputs),
    positions=jnp.asarray(num_prompt + np.arange(length) - first_of_walk),
    segments=jnp.asarray(segments),
    targets=zeros, weights=zeros, nodes=zeros, labels=jnp.zeros((num_rows, task.num_nodes), jnp.int32),
  )  # fmt: skip
  return task, row


def influence(task: StarGraph, params, outputs) -> np.ndarray:
  """Whether the input with label v reaches output i, [..., V] bool: its embedding's gradient is not exactly zero.

  Args:
    task: the task.
    params: one student's parameters.
    outputs: params -> numbers [...]; a random projection stands for the vector at each place.
  """
  embedding = params["first_embedding"]
  jacobian = jax.jit(jax.jacrev(lambda e: outputs({**params, "first_embedding": e})))(embedding)
  assert jacobian.shape[-2:] == (task.vocabulary_size, embedding.shape[1])
  return np.asarray(jnp.any(jacobian != 0, axis=-1))


class CausalityTest(parameterized.TestCase):
  @parameterized.parameters(("rotary", "causal"), ("none", "bidirectional"))
  def test_logits_read_the_prompt_and_their_own_walks_past_and_nothing_else(self, positions, prompt_attention):
    task, batch = influence_batch()
    model = dataclasses.replace(MODEL, positions=positions, prompt_attention=prompt_attention)
    params = random_params(model, task)
    direction = jax.random.normal(jax.random.key(1), (task.vocabulary_size,))
    reached = influence(
      task, params, lambda p: jnp.einsum("brlv,v->brl", transformer.apply(model, task, p, batch).logits, direction)
    )
    num_rows, num_streams, length = batch.segments.shape
    expected = np.zeros_like(reached)
    for b, r, t in np.ndindex(num_rows, num_streams, length):
      expected[b, r, t, batch.prompt[b, :, 0]] = True
      for u in range(t + 1):
        expected[b, r, t, batch.inputs[b, r, u, 0]] = batch.segments[b, r, u] == batch.segments[b, r, t]
    np.testing.assert_array_equal(reached, expected)

  @parameterized.parameters("causal", "bidirectional")
  def test_prompt_positions_read_earlier_ones_or_all_by_the_setting(self, prompt_attention):
    task, batch = influence_batch()
    self.enterContext(mock.patch.object(attention, "QUERIES_PER_BLOCK", 2))  # a prompt of more than one block
    model = dataclasses.replace(MODEL, prompt_attention=prompt_attention)
    params = random_params(model, task)

    def outputs(p):  # of the last layer, [keys or values, B, P]
      keys_values = jnp.stack(decoding.read_prompt(model, task, p, batch.prompt)[-1])
      return jnp.einsum("kbhpf,hf->kbp", keys_values, jax.random.normal(jax.random.key(1), keys_values.shape[2::2]))

    num_rows, num_prompt = batch.prompt.shape[:2]
    expected = np.zeros((num_rows, num_prompt, task.vocabulary_size), bool)
    for b, p, q in np.ndindex(num_rows, num_prompt, num_prompt):
      expected[b, p, batch.prompt[b, q, 0]] = prompt_attention == "bidirectional" or q <= p
    for name, reached in zip(("keys", "values"), influence(task, params, outputs), strict=True):
      np.testing.assert_array_equal(reached, expected, err_msg=name)

  @parameterized.parameters("rotary", "none")
  def test_order_is_seen_through_positions_alone(self, positions):
    """Two inputs that a later one reads change places: without positions one layer cannot tell, with them it can."""
    task, batch = influence_batch()
    model = dataclasses.replace(MODEL, num_layers=1, positions=positions)
    params = random_params(model, task)
    swapped = batch._replace(inputs=batch.inputs[:, :, np.array([1, 0, 2, 3, 4, 5])])
    apply = jax.jit(lambda row: transformer.apply(model, task, params, row).logits)
    logits = [apply(row)[0, 0, 2] for row in (batch, swapped)]
    difference = np.max(np.abs(logits[0] - logits[1]))
    if positions == "none":
      self.assertLess(difference, 1e-5)
    else:
      self.assertGreater(difference, 1e-3)


class PackingTest(absltest.TestCase):
  def test_a_packed_walk_has_the_logits_it_has_alone(self):
    longest = stream_length(TASK)
    packed = sample_packed(TASK, 3, 2, 3 * longest)
    alone, where = walks_alone(packed, longest)
    self.assertGreater(len(where), 20)
    params = random_params(MODEL, TASK)
    apply = jax.jit(lambda batch: transformer.apply(MODEL, TASK, params, batch).logits)
    together, apart = np.asarray(apply(packed)), np.asarray(apply(alone))
    difference = max(
      np.abs(together[row, stream, positions] - apart[i, 0, : len(positions)]).max()
      for i, (row, stream, positions) in enumerate(where)
    )
    print(f"packed against alone: max |logit difference| {difference:.2e}")
    self.assertLess(difference, 1e-5)


class MatmulTypeTest(parameterized.TestCase):
  @parameterized.parameters("tpu", "cuda")
  def test_on_accelerators_bfloat16_operands_stay_narrow_and_results_wide_backwards_too(self, platform):
    model = dataclasses.replace(MODEL, matmul_dtype="bfloat16")
    loss = lambda params, batch: jnp.sum(transformer.apply(model, TASK, params, batch).logits ** 2)
    traced = jax.jit(jax.grad(loss)).trace(shapes_of(model, TASK), random_batch(TASK, 2, 2))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    operand = r"tensor<[\dx]*x(\w+)>"
    products = re.findall(rf"dot_general .*: \({operand}, {operand}\) -> {operand}", text)
    self.assertLen(products, text.count("stablehlo.dot_general "))
    narrow, wide = ("bf16", "bf16", "f32"), ("f32", "f32", "f32")
    self.assertEqual(set(products), {narrow, wide})
    # Wide: the look-up in two embeddings, forwards and backwards.
    self.assertEqual(products.count(wide), 2 * 2)
    # Narrow, once forwards and twice backwards: a layer's four maps, attention of the prompt and of streams, the head.
    # jax 0.10 writes one function for all layers, jax 0.12 writes every layer out.
    each = [3 * (layers * (4 + 2 + 2) + 1) for layers in (1, model.num_layers)]
    self.assertIn(products.count(narrow), each)


def num_parameters(shapes):
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


class SizeTest(parameterized.TestCase):
  @parameterized.parameters(("rotary", "edge", 1, 2), ("learned", "flat", 3, 4), ("none", "edge", 2, 3))
  def test_parameter_count(self, positions, form, num_layers, mlp_ratio):
    task = dataclasses.replace(TASK, encoding=form)
    width, vocabulary = 24, task.vocabulary_size
    model = Transformer(num_layers=num_layers, num_heads=2, width=width, mlp_ratio=mlp_ratio, positions=positions)
    attention, mlp, norms = 4 * width**2, 2 * mlp_ratio * width**2, 2 * width
    embeddings = (vocabulary + vocabulary + 2) * width
    edges = 1 + 3 * 2
    longest = (2 * edges if form == "flat" else edges) + 1 + (task.max_steps - 1)  # edges, goal, all nodes but the last
    learned = longest * width if positions == "learned" else 0
    expected = num_layers * (attention + mlp + norms) + width + width * vocabulary + embeddings + learned
    self.assertEqual(num_parameters(shapes_of(model, task)), expected)

  def test_the_papers_student_has_85_million_parameters_without_embeddings(self):
    shapes = shapes_of(PAPER, StarGraph(num_chains=5, chain_length=5, spare_labels=73))
    inner = num_parameters({k: v for k, v in shapes.items() if k in ("layers", "final_norm")})
    self.assertEqual(inner, 12 * (12 * 768**2 + 2 * 768) + 768)
    self.assertAlmostEqual(inner / 1e6, 85, delta=0.1)

  def test_parameters_are_float32_under_bfloat16_products_too(self):
    for leaf in jax.tree.leaves(shapes_of(dataclasses.replace(MODEL, matmul_dtype="bfloat16"), TASK)):
      self.assertEqual(leaf.dtype, jnp.float32)

  def test_initial_residual_stream_and_logits_do_not_grow_with_depth(self):
    model = dataclasses.replace(MODEL, num_layers=16, width=64)
    params = jax.jit(lambda key: transformer.init_params(model, TASK, key))(jax.random.key(0))
    apply = jax.jit(lambda params, batch: transformer.apply(model, TASK, params, batch, activations=True))
    output = apply(params, random_batch(TASK, 4, 1))
    self.assertBetween(float(jnp.std(output.logits)), 0.4, 0.8)
    embedded = math.sqrt(2)  # the sum of two embeddings of deviation 1
    self.assertBetween(float(jnp.std(output.residual[0])), embedded * 0.9, embedded * 1.2)
    self.assertBetween(float(jnp.std(output.residual[-1])), embedded * 0.9, embedded * 1.6)


class DepthTest(parameterized.TestCase):
  def program(self, num_layers: int) -> list[str]:
    model = dataclasses.replace(MODEL, num_layers=num_layers)
    batch = random_batch(TASK, 2, 1)
    loss = lambda params, batch: jnp.sum(transformer.apply(model, TASK, params, batch).logits ** 2)
    return jax.jit(jax.grad(loss)).lower(shapes_of(model, TASK), batch).as_text().splitlines()

  def test_the_program_does_not_grow_with_depth(self):
    shallow, deep = (len(self.program(n * transformer.LAYERS_PER_ITERATION)) for n in (2, 4))
    self.assertGreater(shallow, 100)
    self.assertEqual(shallow, deep)

  def test_remat_computes_activations_again_and_gives_the_same_gradients(self):
    batch = random_batch(TASK, 2, 2)
    params = random_params(MODEL, TASK)
    gradients, names = [], []
    for remat in (False, True):
      model = dataclasses.replace(MODEL, remat=remat)
      loss = lambda params, model=model: jnp.mean(transformer.apply(model, TASK, params, batch).logits ** 2)
      traced = jax.jit(jax.grad(loss)).trace(params)
      gradients.append(traced.lower().compile()(params))
      names.append({e.primitive.name for e in equations(traced.jaxpr.jaxpr)})
    self.assertIn("remat2", names[1] - names[0], names[1] - names[0])
    differences = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a))), *gradients)
    print(f"remat: largest relative gradient difference {max(jax.tree.leaves(differences)):.1e}")
    self.assertLess(max(jax.tree.leaves(differences)), 1e-5)


@functools.cache
def activations() -> tuple[Row, dict, Output, Output]:
  """A packed batch, parameters, and the outputs with activations and without."""
  batch, params = sample_packed(TASK, 3, 2, 3 * stream_length(TASK)), random_params(MODEL, TASK)
  apply = lambda wanted: jax.jit(lambda p, b: transformer.apply(MODEL, TASK, p, b, activations=wanted))(params, batch)
  return batch, params, apply(True), apply(False)


class ActivationsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.batch, self.params, self.output, self.plain = activations()
    self.length = self.batch.segments.shape[-1]

  def test_shapes(self):
    layers, heads, width, length = 2, 2, 16, self.length
    prompt = encoding.prompt_length(TASK)
    self.assertEqual(self.output.logits.shape, (3, 2, length, TASK.vocabulary_size))
    self.assertEqual(self.output.residual.shape, (layers, 3, 2, length, width))
    self.assertEqual(self.output.attention.shape, (layers, 3, heads, 2, length, prompt + length))

  def test_they_are_left_out_unless_asked_for_and_change_nothing(self):
    self.assertIsNone(self.plain.residual)
    self.assertIsNone(self.plain.attention)
    np.testing.assert_allclose(self.plain.logits, self.output.logits, atol=1e-5)

  def test_attention_sums_to_one_and_is_zero_exactly_where_masked(self):
    attention = np.asarray(self.output.attention)
    np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-5)
    segments = np.asarray(self.batch.segments)
    own_past = np.tril(segments[..., :, None] == segments[..., None, :])
    allowed = np.concatenate([np.ones((3, 2, self.length, encoding.prompt_length(TASK)), bool), own_past], axis=-1)
    np.testing.assert_array_equal(attention > 0, np.broadcast_to(allowed[None, :, None], attention.shape))

  def test_the_last_residual_stream_is_what_the_head_reads(self):
    last = np.asarray(self.output.residual[-1], np.float64)
    scale, kernel = (np.asarray(self.params[a][b]) for a, b in (("final_norm", "scale"), ("head", "kernel")))
    normed = last / np.sqrt(np.mean(last**2, axis=-1, keepdims=True) + 1e-6) * scale
    np.testing.assert_allclose(normed @ kernel, self.output.logits, atol=1e-5)


if __name__ == "__main__":
  absltest.main()
