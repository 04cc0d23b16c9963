"""What many operations read is computed once, not again inside each of them."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def computed_once(valid: jax.Array, tree: Tree) -> Tree:
  """`tree`, kept in memory before anything reads it.

  XLA fuses what is cheap by its own count into every operation that reads it. A mask and the turns of positions follow
  from the sampled walks by gathers; within a softmax they are ten times as slow as reading them. For this there is
  `optimization_barrier`, which XLA removes on a CPU before it fuses; a conditional it keeps.

  Args:
    valid: a bool scalar that is true in fact, but that XLA cannot know to be.
    tree: of arrays.
  """

  def kept(tree: Tree) -> Tree:
    return jax.lax.cond(valid, lambda x: x, lambda x: jax.tree.map(jnp.zeros_like, x), tree)

  return jax.lax.platform_dependent(tree, cpu=kept, default=jax.lax.optimization_barrier)
