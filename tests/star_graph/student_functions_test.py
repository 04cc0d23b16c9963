"""What is asked of students: step by step and at once they answer alike; children are found by their labels."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.models.graph_transformer import GraphTransformer
from loopjax.models.transformer import Transformer
from loopjax.remedies.seed_conditioning import SeedConditioned, with_seeds
from loopjax.star_graph import student_functions, teacher
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law, Lawful, law_parameters
from loopjax.star_graph.rollouts import sample_problems
from loopjax.star_graph.streams import teacher_walks
from loopjax.star_graph.teacher import PADDING
from tests.models.students import random_params
from tests.star_graph import brute_force

SHOWN = StarGraph(num_chains=2, chain_length=2, spare_labels=1, max_steps=10, explore_prob=0.8)
HIDDEN = StarGraph(num_chains=2, chain_length=2, spare_labels=1, max_steps=10, explore_prob=0.8, goal_hidden=True)
FLAT = dataclasses.replace(SHOWN, encoding="flat")
MODEL = Transformer(num_layers=1, num_heads=2, width=16)
GRAPH = GraphTransformer(num_layers=1, num_heads=2, width=16, graph_rounds=2, node_width=4)
RANDOM = dataclasses.replace(GRAPH, random_features=3)


class StudentTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ("network", MODEL, SHOWN), ("network_goal_hidden", MODEL, HIDDEN), ("law", Lawful(), SHOWN),
    ("seeded", SeedConditioned(with_seeds(MODEL, SHOWN), "return"), SHOWN), ("graph", GRAPH, FLAT),
    ("random_features_goal_hidden", RANDOM, HIDDEN),
    ("random_features_seeded", SeedConditioned(with_seeds(RANDOM, SHOWN), "return"), SHOWN),
  )  # fmt: skip
  def test_step_by_step_as_at_once(self, model, task):
    """Along a teacher's walks, at every node from which they go on."""
    student, probabilities = student_functions.functions_of(model, task), teacher.teacher_probabilities(task)
    law = law_parameters(Law("memoryless", error_size=0.3), jax.random.key(5))
    network = model.model if isinstance(model, SeedConditioned) else model
    params = law if isinstance(model, Lawful) else random_params(network, task)

    @jax.jit
    def both(key):
      problem_key, walk_key = jax.random.split(key)
      problems = sample_problems(task, problem_key, 4, 2)
      walks = teacher_walks(task, probabilities, walk_key, problems.goal_chain)
      nodes = jnp.clip(walks, 0, task.num_nodes - 1)
      labels = jax.vmap(lambda graph, walk: graph.labels[walk])(problems.graphs, nodes)

      def take(state, index):
        logits, state = student.step(params, state, labels[..., index], index)
        return state, logits

      _, steps = jax.lax.scan(
        take, student.begin(params, probabilities, problems), jnp.arange(task.max_steps - 1)
      )  # fmt: skip
      return walks, jnp.moveaxis(steps, 0, 2), student.read(params, probabilities, problems, walks)

    walks, steps, at_once = map(np.asarray, both(jax.random.key(0)))
    self.assertEqual(at_once.shape, (4, 2, task.max_steps - 1, task.vocabulary_size))
    asked = walks[..., 1:] != PADDING
    self.assertGreater(asked.sum(), 30)
    np.testing.assert_allclose(at_once[asked], steps[asked], rtol=1e-5, atol=1e-5)
    self.assertGreater(np.ptp(at_once[asked], axis=0).min(), 0.1)  # they do depend on the walk

  def test_child_logits(self):
    problems = jax.jit(lambda key: sample_problems(SHOWN, key, 3, 2))(jax.random.key(0))
    logits = np.random.default_rng(0).normal(size=(3, 2, 4, SHOWN.vocabulary_size)).astype(np.float32)
    found = student_functions.child_logits(SHOWN, problems.graphs, jnp.asarray(logits))
    self.assertEqual(found.shape, (3, 2, 4, 2))
    kids = brute_force.children_of_root(SHOWN)
    for graph in range(3):
      of_children = np.asarray(problems.graphs.labels)[graph, kids]
      np.testing.assert_array_equal(found[graph], logits[graph][..., of_children])

  def test_another_kind_of_student(self):
    with self.assertRaisesRegex(TypeError, "^model=3 is not allowed: must be a Transformer or Lawful"):
      student_functions.functions_of(3, SHOWN)


if __name__ == "__main__":
  absltest.main()
