"""Logits processors, one a file: each changes the logits of the next token before it is drawn.

A processor is a frozen config with two pure functions. Its *strength* is the one number that a sweep changes; it is
traced, so that a grid of strengths is one compiled program, and each column has its own. Other fields are static. Two
numbers are two processors, which may share a file.

What every processor keeps, and tests hold all of them to:

- It may stand at any place of the order. A logit of -inf is a banned token; if all are banned, they stay so.
- Its state travels with its row: every leaf is [G, ...] or [G, R, ...]. A row alone is the row in a batch.
- A number added to all logits comes out again, unless its docstring says otherwise.
- At its neutral strength logits do not change, bit for bit.

Shapes: G prompts, R columns, V vocabulary, W tokens of a continuation with its first, P tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from loopjax.runtime import modules
from loopjax.runtime.config import require

PROCESSORS: dict[str, type] = {}
"""The processors by their name, which is that of their strength in frames."""


class Sizes(NamedTuple):
  """How large a generation is: G, R, V and W."""

  num_prompts: int
  num_columns: int
  vocabulary: int
  length: int

  @property
  def rows(self) -> tuple[int, int]:
    """(G, R): one row is one continuation."""
    return self.num_prompts, self.num_columns


class Prompt(NamedTuple):
  """What processors are told of the prompts.

  Attributes:
    tokens: [G, P]; -1 is padding, wherever it stands.
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
    keys: [R] typed keys of this step. The draw uses them as they are: `draws.uniform` folds a name in.
    recent: [G, R, W], the continuations so far with the newest token first: `recent[..., p]` stands p before the token
      just read. It is -1 where there is none, so nobody reads past the beginning or the end.
    extras: what the decoder tells beside logits, by name (`Decoder.extras`).
  """

  tokens: jax.Array
  step: jax.Array
  keys: jax.Array
  recent: jax.Array
  extras: Mapping[str, jax.Array] = {}


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

  def init(self, prompt: Prompt, sizes: Sizes) -> Any:
    """Its state before the first token is read."""

  def apply(self, strength: jax.Array, state: Any, logits: jax.Array, context: Context) -> tuple[Any, jax.Array]:
    """The next state, and the changed logits [G, R, V]; `strength` is [R] or scalar."""


class Stateless:
  """A processor that carries nothing from token to token: it has `change` in place of `init` and `apply`."""

  def init(self, prompt: Prompt, sizes: Sizes) -> tuple[()]:
    del prompt, sizes
    return ()

  def apply(
    self, strength: jax.Array, state: tuple[()], logits: jax.Array, context: Context
  ) -> tuple[tuple[()], jax.Array]:
    return state, self.change(strength, logits, context)

  def change(self, strength: jax.Array, logits: jax.Array, context: Context) -> jax.Array:
    """The changed logits [G, R, V]."""
    raise NotImplementedError


def register(kind: type) -> type:
  """Enters a processor into `PROCESSORS` under its `name`: a decorator."""
  PROCESSORS[kind.name] = kind  # type: ignore[attr-defined]
  return kind


def all_processors() -> dict[str, type]:
  """`PROCESSORS` after all files of this folder have been read."""
  modules.import_all(__name__, __path__)
  return dict(sorted(PROCESSORS.items()))


def extra(context: Context, name: str, processor: str) -> jax.Array:
  """What the decoder tells under this name; raises `ValueError` where it does not."""
  require(name in context.extras, processor, name, f"told by the decoder (`Decoder.extras`), not {[*context.extras]}")
  return context.extras[name]


def per_column(strength: jax.Array) -> jax.Array:
  """A strength [R], or scalar, as it broadcasts against logits [G, R, V]: [1, R, 1]."""
  return jnp.reshape(strength, (1, -1, 1))
