"""How an evaluation draws tokens: the columns, and in each the strength of every processor.

Shapes: R columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loopjax.generation.processors import Processor
from loopjax.generation.processors.temperature import Temperature
from loopjax.runtime.config import require, require_finite


class Columns(NamedTuple):
  """The columns of a generation, traced.

  Attributes:
    strengths: of each processor, [R].
    temperature_bits: [R], uint32, what tells temperatures apart in the keys of draws.
    numbers: [R], the number of each column among equal ones.
  """

  strengths: tuple[jax.Array, ...]
  temperature_bits: jax.Array
  numbers: jax.Array

  def keys(self, key: jax.Array) -> jax.Array:
    """A key of the draws for each column, [R]: it depends on the column's temperature, and on its number among equals.

    So draws at one temperature do not depend on which others are listed, and columns that differ in another processor
    alone have the same draws.
    """

    def one(bits: jax.Array, number: jax.Array) -> jax.Array:
      return jax.random.fold_in(jax.random.fold_in(key, bits), number)

    return jax.vmap(one)(self.temperature_bits, self.numbers)


@dataclasses.dataclass(frozen=True)
class Generation:
  """Processors in their order, which is part of what a generation is, and the columns' strengths.

  Attributes:
    processors: none comes twice.
    columns: for each of the R columns the strength of every processor.
  """

  processors: tuple[Processor, ...]
  columns: tuple[tuple[float, ...], ...]

  def __post_init__(self) -> None:
    names = [processor.name for processor in self.processors]
    require(len(set(names)) == len(names), "processors", names, "each of them once")
    require(len(self.columns) > 0, "columns", self.columns, "one or more")
    for column in self.columns:
      require(len(column) == len(names), "columns", column, f"a strength for each of {names}")
      for processor, strength in zip(self.processors, column, strict=True):
        require_finite(processor.name, strength)
        processor.check(strength)

  @property
  def num_columns(self) -> int:
    return len(self.columns)

  def traced(self) -> Columns:
    """The columns as arrays: programs that take them as arguments serve every strength."""
    temperatures = self.labels().get(Temperature.name, [1.0] * self.num_columns)
    numbers = [self.columns[:place].count(column) for place, column in enumerate(self.columns)]
    return Columns(
      strengths=tuple(jnp.asarray(np.asarray(each, np.float32)) for each in zip(*self.columns, strict=True)),
      temperature_bits=jnp.asarray(np.asarray(temperatures, np.float32).view(np.uint32)),
      numbers=jnp.asarray(np.asarray(numbers)),
    )

  def labels(self) -> dict[str, list[float]]:
    """The strengths of each processor that has one, by its name, R of each: the columns of frames."""
    return {
      processor.name: [column[place] for column in self.columns]
      for place, processor in enumerate(self.processors)
      if processor.neutral is not None
    }


def at_temperatures(temperatures: Sequence[float], *others: Processor) -> Generation:
  """A column for each temperature; `others` act before it, at their neutral strengths, or without one."""
  before = tuple(other.neutral or 0.0 for other in others)
  return Generation((*others, Temperature()), tuple((*before, float(temperature)) for temperature in temperatures))


def by_name(processors: Sequence[Processor], columns: Sequence[Mapping[str, float]]) -> Generation:
  """A generation whose columns give strengths by the processors' names; the others stay neutral.

  Example: `by_name((Dry(), TopP(), Temperature()), [{"temperature": 0.0}, {"temperature": 0.0, "dry": 0.8}])`.

  Raises:
    ValueError: a column names a processor that is not among these, or has a strength that it does not allow.
  """
  names = [processor.name for processor in processors]
  for column in columns:
    for name, strength in column.items():
      require(name in names, name, strength, f"the strength of a processor of this generation, one of {names}")
  neutral = {processor.name: processor.neutral or 0.0 for processor in processors}
  return Generation(tuple(processors), tuple(tuple({**neutral, **column}.values()) for column in columns))
