"""What the student reads, against its construction in plain Python."""

from __future__ import annotations

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from loopjax.star_graph import encoding, teacher
from loopjax.star_graph.graph import START, Graph, StarGraph, sample_graph
from loopjax.star_graph.streams import Stream, first_walk_only, sample_stream, sample_walk, stream_length
from tests.star_graph import brute_force

VOCABULARY = 14
ENCODINGS = ("edge", "flat")


def make_task(encoding: str = "edge", goal_hidden: bool = False, n: int = 3, l: int = 2) -> StarGraph:
  """Walks are cut at 16 nodes, which many reach."""
  settings = dict(reset_prob=0.4, explore_prob=0.5, encoding=encoding, goal_hidden=goal_hidden)
  return StarGraph(n, l, max_steps=16, spare_labels=VOCABULARY - (2 + n * l), **settings)


def make_graph(task: StarGraph, seed: int = 0) -> Graph:
  """As `sample_graph`, without its compilation."""
  rng = np.random.default_rng(seed)
  labels = rng.permutation(task.vocabulary_size)[: task.num_nodes]
  return Graph(jnp.array(labels), jnp.array(rng.permutation(task.num_edges)))


def edges(task: StarGraph) -> list[tuple[int, int]]:
  """(parent, child) nodes, in the order of `star_graph`'s numbering."""
  pairs = [(brute_force.S, brute_force.R)]
  for chain in range(task.num_chains):
    nodes = [brute_force.R] + [brute_force.node_number(task, chain, j) for j in range(1, task.chain_length + 1)]
    pairs += zip(nodes, nodes[1:], strict=False)
  return pairs


def chains_of_edges(pairs: list[tuple[int, int]]) -> tuple[int, int, set[tuple[int, ...]]]:
  """Start, root and chains of the star graph with these edges (parent, child), found from the edges alone."""
  (start,) = {parent for parent, _ in pairs} - {child for _, child in pairs}
  (root,) = [child for parent, child in pairs if parent == start]
  chains = set()
  for parent, child in pairs:
    if parent == root:
      chain = [child]
      while following := [b for a, b in pairs if a == chain[-1]]:
        chain += following
      chains.add(tuple(chain))
  return start, root, chains


@functools.cache
def packed_streams(goal_hidden: bool) -> Stream:
  """Five streams, fields [R, L]."""
  task = make_task(goal_hidden=goal_hidden)
  sample = functools.partial(sample_stream, task, teacher.teacher_probabilities(task), length=40)
  return jax.jit(jax.vmap(sample))(jax.random.split(jax.random.key(1), 5))


@functools.cache
def packed_row(name: str, goal_hidden: bool) -> tuple[StarGraph, Graph, Stream, encoding.Row]:
  """A graph, its packed streams and their row, on the host."""
  task, streams = make_task(name, goal_hidden), packed_streams(goal_hidden)
  graph = make_graph(task)
  return task, *jax.tree.map(np.asarray, (graph, streams, encoding.encode_streams(task, graph, streams)))


class PromptTest(parameterized.TestCase):
  @hypothesis.settings(max_examples=10)
  @hypothesis.given(name=st.sampled_from(ENCODINGS), seed=st.integers(0, 1000))
  def test_against_plain_python(self, name, seed):
    task = make_task(name)
    graph = make_graph(task, seed)
    want = []
    for edge in graph.edge_order.tolist():
      parent, child = (int(graph.labels[node]) for node in edges(task)[edge])
      want += [[parent, child]] if name == "edge" else [[parent, VOCABULARY], [child, VOCABULARY]]
    prompt = encoding.encode_prompt(task, graph)
    self.assertEqual(prompt.tolist(), want)
    self.assertLen(prompt, encoding.prompt_length(task))

  @parameterized.product(name=ENCODINGS, sizes=((1, 1), (1, 4), (4, 1), (3, 4)))
  def test_the_edges_tell_the_graph(self, name, sizes):
    task = make_task(name, n=sizes[0], l=sizes[1])
    graph = make_graph(task)
    prompt = encoding.encode_prompt(task, graph).tolist()
    pairs = prompt if name == "edge" else [(a[0], b[0]) for a, b in zip(prompt[::2], prompt[1::2], strict=True)]
    start, root, chains = chains_of_edges(pairs)
    labels = graph.labels.tolist()
    self.assertEqual([start, root], labels[:2])
    self.assertEqual(chains, {tuple(labels[2 + i * sizes[1] : 2 + (i + 1) * sizes[1]]) for i in range(sizes[0])})

  def test_goal_tokens(self):
    """The label of the leaf, and a marker that is no label and not the null."""
    task = make_task()
    graph = make_graph(task)
    leaves = [int(graph.labels[brute_force.goal_of(task, chain)]) for chain in (2, 0, 1)]
    tokens = encoding.goal_token(task, graph, jnp.array([[2, 0], [1, 1]]))
    want = [[leaves[0], VOCABULARY + 1], [leaves[1], VOCABULARY + 1], [leaves[2], VOCABULARY + 1]]
    self.assertEqual(tokens.tolist(), [want[:2], [want[2], want[2]]])
    self.assertEqual((encoding.null_id(task), encoding.goal_id(task)), (VOCABULARY, VOCABULARY + 1))
    self.assertEqual(encoding.num_ids(task), VOCABULARY + 2)


class LabelsTest(parameterized.TestCase):
  def test_nodes_of_labels(self):
    task = make_task()
    for seed in range(5):
      graph = make_graph(task, seed)
      labels = graph.labels.tolist()
      want = [labels.index(label) if label in labels else task.num_nodes for label in range(VOCABULARY)]
      self.assertIn(task.num_nodes, want)
      self.assertEqual(encoding.nodes_of_labels(task, graph, jnp.arange(VOCABULARY)).tolist(), want)
    walk = jnp.array([[0, 1, 4], [0, 1, 7]])
    tokens = encoding.node_tokens(task, graph, walk)
    np.testing.assert_array_equal(tokens[..., 1], VOCABULARY)
    np.testing.assert_array_equal(encoding.nodes_of_labels(task, graph, tokens[..., 0]), walk)

  def test_node_probabilities(self):
    task = make_task()
    graph = make_graph(task)
    over_labels = np.random.default_rng(0).dirichlet(np.ones(VOCABULARY), size=(2, 3))
    got = encoding.node_probabilities(graph, jnp.array(over_labels))
    self.assertEqual(got.shape, (2, 3, task.num_nodes))
    for node, label in enumerate(graph.labels.tolist()):
      np.testing.assert_allclose(got[..., node], over_labels[..., label], rtol=1e-6)


class RowTest(parameterized.TestCase):
  @parameterized.product(name=ENCODINGS, goal_hidden=(False, True))
  def test_streams_against_plain_python(self, name, goal_hidden):
    task, graph, streams, row = packed_row(name, goal_hidden)
    labels = graph.labels.tolist()
    np.testing.assert_array_equal(row.prompt, encoding.encode_prompt(task, graph))
    num_starts = 0
    for i, t in np.ndindex(streams.node.shape):
      node, target, position = (int(field[i, t]) for field in (streams.node, streams.target, streams.position))
      marker = VOCABULARY + 1 if position < 0 else VOCABULARY
      self.assertEqual(row.inputs[i, t].tolist(), [labels[node], marker])
      self.assertEqual(row.targets[i, t], labels[target])
      begins = t == 0 or streams.walk[i, t] != streams.walk[i, t - 1]
      want = encoding.prompt_length(task) if begins else row.positions[i, t - 1] + 1
      self.assertEqual(row.positions[i, t], want)
      if begins:
        goal = brute_force.goal_of(task, streams.goal_chain[i, t])
        self.assertEqual(node, START if goal_hidden else goal)
        num_starts += 1
    self.assertGreater(num_starts, 10)
    for got, want in ((row.segments, streams.walk), (row.weights, streams.weight), (row.nodes, streams.node)):
      np.testing.assert_array_equal(got, want)

  @parameterized.parameters(*ENCODINGS)
  def test_the_goal_is_all_that_a_walk_reads_besides_its_nodes(self, name):
    """Where the goal is shown, exactly one position of a walk names it, and it is not trained on."""
    _, _, streams, row = packed_row(name, False)
    marked = row.inputs[..., 1] == VOCABULARY + 1
    np.testing.assert_array_equal(marked, row.weights == 0)
    for i in range(len(marked)):
      self.assertEqual(marked[i].sum(), streams.walk[i, -1] + 1)
    self.assertTrue((packed_row(name, True)[3].weights == 1).all())

  @parameterized.product(goal_hidden=(False, True))
  def test_padding_counts_nothing(self, goal_hidden):
    task, graph, streams, row = packed_row("edge", goal_hidden)
    first = encoding.encode_streams(task, graph, first_walk_only(streams))
    counts = (streams.walk == 0) & (streams.position >= 0)
    np.testing.assert_array_equal(first.weights, counts)
    np.testing.assert_array_equal(first.targets[counts], row.targets[counts])
    np.testing.assert_array_equal(first.inputs[streams.walk == 0], row.inputs[streams.walk == 0])
    self.assertBetween(int(first.inputs[..., 0].min()), 0, int(first.inputs[..., 0].max()))  # legal ids in the padding
    self.assertLess(int(first.inputs[..., 0].max()), VOCABULARY)
    self.assertGreaterEqual(int(first.targets.min()), 0)

  @parameterized.product(name=ENCODINGS, goal_hidden=(False, True))
  def test_a_walk_read_teacher_forced_is_the_row_it_was_sampled_in(self, name, goal_hidden):
    """`sample_row` unpacked, against the same walks through `sample_walk` and `stream_of_walk`."""
    task = make_task(name, goal_hidden)
    probabilities, length = teacher.teacher_probabilities(task), stream_length(task)

    @jax.jit
    def both(key):
      row = encoding.sample_row(task, probabilities, key, num_streams=8, length=length, packed=False)
      graph_key, stream_key = jax.random.split(key)
      graph = sample_graph(task, graph_key)
      walks, goals = jax.vmap(lambda k: sample_walk(task, probabilities, k))(jax.random.split(stream_key, 8))
      streams = jax.vmap(lambda walk, goal: encoding.stream_of_walk(task, walk, goal))(walks, goals)
      return row, encoding.encode_streams(task, graph, streams), walks

    row, again, walks = jax.tree.map(np.asarray, both(jax.random.key(7)))
    np.testing.assert_array_equal(row.prompt, again.prompt)
    np.testing.assert_array_equal(row.weights, again.weights)
    np.testing.assert_array_equal(row.weights.sum(axis=1), (walks >= 0).sum(axis=1) - 1)
    is_read = row.weights == 1
    if not goal_hidden:
      is_read[:, 0] = True
    for field in ("inputs", "positions", "segments", "targets", "nodes"):
      np.testing.assert_array_equal(getattr(row, field)[is_read], getattr(again, field)[is_read], err_msg=field)

  def test_streams_of_a_row_differ(self):
    """They share the graph, not the draws."""
    task = make_task()
    probabilities = teacher.teacher_probabilities(task)
    row = jax.jit(lambda key: encoding.sample_row(task, probabilities, key, num_streams=4, length=40, packed=True))(
      jax.random.key(0)
    )
    self.assertEqual(row.inputs.shape, (4, 40, 2))
    self.assertLen({tuple(nodes) for nodes in row.nodes.tolist()}, 4)
    start = row.inputs[..., 0][row.nodes == START]
    self.assertLen(set(start.tolist()), 1)

  @parameterized.product(name=ENCODINGS, goal_hidden=(False, True))
  def test_max_positions_is_tight(self, name, goal_hidden):
    """A walk that is cut reads the last position there is; 16 nodes leave many cut."""
    task, _, streams, row = packed_row(name, goal_hidden)
    self.assertIn(task.max_steps - 2, streams.position)
    self.assertEqual(row.positions.max() + 1, encoding.max_positions(task))
    prompt_length = len(row.prompt)
    self.assertEqual(row.positions.min(), prompt_length)  # the prompt's own are 0 .. prompt_length - 1


if __name__ == "__main__":
  absltest.main()
