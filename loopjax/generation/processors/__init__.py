"""Logits processors, one a file: each changes the logits of the next token before it is drawn.

A processor is a frozen config with two pure functions. Its *strength* is the one number that a sweep changes; it is
traced, so that a grid of strengths is one compiled program, and each column has its own. Other fields are static. Two
numbers are two processors, which may share a file.

Shapes: G prompts, R columns, V vocabulary, W tokens of a continuation with its first, P tokens of a prompt.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

PROCESSORS: dict[str, type] = {}
"""The processors by their name, which is that of their strength in frames."""


class Prompt(NamedTuple):
  """What processors are told of the prompts.

  Attributes:
    tokens: [G, P].
    task: what a task's own processors read; None where there is none.
  """

  tokens: jax.Array
  task: Any = None


class Context(NamedTuple):
  """What processors are told at every step.

  Attributes:
    tokens: [G, R], the tokens just read: number `step` of their continuations, from 0; -1 once one has ended. Number 0
      is given (s in the star graph), not drawn; a processor says whether it counts.
    step: how many tokens have been drawn so far, scalar.
    keys: [R] typed keys of this step. The draw uses them as they are: fold something in.
  """

  tokens: jax.Array
  step: jax.Array
  keys: jax.Array


class Processor(Protocol):
  """A frozen dataclass; its name and its fields are part of what tells one run from another.

  Attributes:
    name: as in `PROCESSORS`.
    neutral: the strength at which it changes nothing; None for a processor whose strength has no meaning.
  """

  name: ClassVar[str]
  neutral: ClassVar[float | None]

  def check(self, strength: float) -> None:
    """Raises `ValueError` where this finite strength is not allowed."""

  def init(self, prompt: Prompt, shape: tuple[int, ...], length: int) -> Any:
    """Its state before the first token is read, for continuations of `shape` = (G, R) and `length` = W."""

  def apply(self, strength: jax.Array, state: Any, logits: jax.Array, context: Context) -> tuple[Any, jax.Array]:
    """The next state, and the changed logits [G, R, V]; `strength` is [R] or scalar."""


def register(kind: type) -> type:
  """Enters a processor into `PROCESSORS` under its `name`: a decorator."""
  PROCESSORS[kind.name] = kind  # type: ignore[attr-defined]
  return kind


def per_column(strength: jax.Array) -> jax.Array:
  """A strength [R], or scalar, as it broadcasts against logits [G, R, V]: [1, R, 1]."""
  return jnp.reshape(strength, (1, -1, 1))
