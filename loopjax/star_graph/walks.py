"""Measures of one walk, of a teacher or a rollout: pure and jittable; map them over walks with `vmap`.

The definitions are those of the task (arXiv 2512.12895 and docs/definitions.md). A walk ends in one of three ways: its
goal is *reached*, it is *broken* by its first invalid move, or it is *cut*. A move is valid if it is parent -> child,
or -> s where the teacher gives that a positive probability. What comes with an invalid move or after it counts for
nothing: length and returns of a broken walk are those up to its last valid node.

Shapes: W nodes of a walk, C children.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.star_graph import teacher
from loopjax.star_graph.graph import ROOT, START, StarGraph
from loopjax.star_graph.teacher import PADDING, TeacherProbabilities


class WalkMeasures(NamedTuple):
  """Measures of one walk, float32 scalars; their means over walks are what experiments report.

  Attributes:
    reached: 1 if the goal was reached by valid moves: the paper's accuracy.
    broken: 1 if the walk made an invalid move, such as one that leaps to the goal.
    cut: 1 if it did neither until the cut.
    response_length: nodes up to the goal, the last valid move, or the cut.
    successful_length: the same, NaN where the goal was not reached.
    returns: moves back to s.
    root_loops: (s, r, s) windows.
    root_loop_share: nodes in the union of such windows over the response length.
    distinct_children: children entered at least once.
    revisits: entries into a child entered before.
  """

  reached: jax.Array
  broken: jax.Array
  cut: jax.Array
  response_length: jax.Array
  successful_length: jax.Array
  returns: jax.Array
  root_loops: jax.Array
  root_loop_share: jax.Array
  distinct_children: jax.Array
  revisits: jax.Array


def root_loop_starts(walk: jax.Array) -> jax.Array:
  """Where an (s, r, s) window begins, [W] bool."""
  is_start = walk == START
  begins = is_start[:-2] & (walk[1:-1] == ROOT) & is_start[2:]
  return jnp.concatenate([begins, jnp.zeros(2, bool)])


def measure_walk(
  task: StarGraph, probabilities: TeacherProbabilities, walk: jax.Array, goal_chain: jax.Array
) -> WalkMeasures:
  """All measures of one walk.

  Args:
    task: the task.
    probabilities: the teacher's; they decide which resets are valid.
    walk: [W] nodes from s on; N for a label off the graph; `PADDING` after the end.
    goal_chain: the goal's chain, scalar.
  """
  is_valid = teacher.valid_moves(task, probabilities, walk)
  counts = jnp.concatenate([jnp.ones(1, bool), jnp.cumsum(~is_valid) == 0])
  walk = jnp.where(counts, walk, PADDING)
  length = jnp.sum(walk != PADDING)
  reached, broken = jnp.any(walk == task.goal_node(goal_chain)), ~jnp.all(is_valid)
  begins = root_loop_starts(walk)
  covered = begins | jnp.roll(begins, 1) | jnp.roll(begins, 2)  # the last two entries are False: nothing wraps round
  entries = jnp.sum(teacher.entered(task, walk), axis=0)
  distinct = jnp.sum(entries > 0)
  measures = WalkMeasures(
    reached=reached,
    broken=broken & ~reached,
    cut=~reached & ~broken,
    response_length=length,
    successful_length=jnp.where(reached, length, jnp.nan),
    returns=jnp.sum(walk[1:] == START),
    root_loops=jnp.sum(begins),
    root_loop_share=jnp.sum(covered) / length,
    distinct_children=distinct,
    revisits=jnp.sum(entries) - distinct,
  )
  return jax.tree.map(lambda measure: measure.astype(jnp.float32), measures)
