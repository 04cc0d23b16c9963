"""What a sweep consists of: a grid of config changes times blocks of seeds, each a unit of work.

A config here is an experiment's: frozen, with the fields `num_seeds` and `first_seed`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from loopjax import results
from loopjax.runtime import config as configs
from loopjax.runtime import seeds
from loopjax.runtime.config import environment_number, require
from loopjax.star_graph.teacher import TeacherProbabilities

MOST_UNITS = 100_000  # each has a folder
SEED_FIELDS = ("first_seed", "num_seeds")
_ARRAY = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "STEP", "COUNT"))
_TRACED = {*TeacherProbabilities._fields, "first_seed"}  # values in one compiled program, like keys


@dataclasses.dataclass(frozen=True)
class Unit:
  """One config with one block of seeds.

  Attributes:
    experiment: its name.
    config: its config, the block of seeds among the fields.
  """

  experiment: str
  config: Any

  @property
  def name(self) -> str:
    """Such as `3f2a9c1b7d20_0-31`: a hash of the experiment and of all but the seeds, first and last seed."""
    return unit_name(self.experiment, configs.to_json(self.config))

  @property
  def seed_numbers(self) -> range:
    return range(self.config.first_seed, self.config.first_seed + self.config.num_seeds)


def unit_name(experiment: str, config: Mapping[str, Any]) -> str:
  """`Unit.name` from the config as JSON; `KeyError`, `TypeError` or `IndexError` where that has no seeds."""
  settings = {name: value for name, value in config.items() if name not in SEED_FIELDS}
  text = json.dumps([experiment, settings], sort_keys=True)
  first, count = (config[name] for name in SEED_FIELDS)
  numbers = range(first, first + count)
  return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}_{numbers[0]}-{numbers[-1]}"


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
  """Field -> values from texts such as `task.chain_length=2,3`.

  Values are JSON (`1e-3`, `true`, a tuple as `[0, 1]`) or bare words (`model.positions=none,rotary`). A single value
  sets a field of all units.

  Raises:
    ValueError: a text is no `field=values`, a field or a value comes twice, or a field is one of the seeds'.
  """
  grid: dict[str, list[Any]] = {}
  for text in texts:
    field, equals, listed = text.partition("=")
    require(bool(field and equals and listed), "grid", text, "field=value,value,...")
    require(field not in SEED_FIELDS, "grid", text, "another field: seeds have flags of their own")
    require(field not in grid, "grid", text, f"all values of {field} at once")
    grid[field] = _parse_values(listed)
    require(len(set(map(str, grid[field]))) == len(grid[field]), "grid", text, "every value once")
  return grid


def _parse_values(text: str) -> list[Any]:
  try:
    return json.loads(f"[{text}]")
  except ValueError:
    return text.split(",")


def make_units(
  experiment: str, base: Any, grid: Mapping[str, Sequence[Any]], *, first_seed: int, num_seeds: int,
  seeds_per_unit: int,
) -> list[Unit]:  # fmt: skip
  """All units, in the order in which they should run: those of one compiled program follow each other.

  Args:
    experiment: its name.
    base: config of what the grid leaves as it is.
    grid: dotted field -> values.
    first_seed: of all.
    num_seeds: for each point of the grid.
    seeds_per_unit: the most seeds of a unit.

  Raises:
    ValueError: a point of the grid is no valid config, or the same as another.
  """
  require(seeds_per_unit >= 1, "seeds_per_unit", seeds_per_unit, "at least 1")
  end = seeds.block(first_seed, num_seeds).stop
  num_units = math.prod(map(len, grid.values())) * -(-num_seeds // seeds_per_unit)
  few = f"so few that there are at most {MOST_UNITS} units, not {num_units}"
  require(num_units <= MOST_UNITS, "num_seeds", num_seeds, few)
  blocks = [(first, min(seeds_per_unit, end - first)) for first in range(first_seed, end, seeds_per_unit)]
  units = []
  for values in itertools.product(*grid.values()):
    changes = dict(zip(grid, values, strict=True))
    for block in blocks:
      config = configs.replace(base, {**changes, **dict(zip(SEED_FIELDS, block, strict=True))})
      units.append(Unit(experiment, config))
  require(len({unit.name for unit in units}) == len(units), "grid", dict(grid), "without two points of one config")
  return _by_program(units)


def _by_program(units: Sequence[Unit]) -> list[Unit]:
  """The units grouped by what is compiled into their programs, groups in order of their first unit."""
  groups: dict[str, list[Unit]] = {}
  for unit in units:
    groups.setdefault(program(unit), []).append(unit)
  return list(itertools.chain.from_iterable(groups.values()))


def program(unit: Unit) -> str:
  """The settings that are compiled into a unit's programs: units of the same share them."""
  leaves = results.flatten(configs.to_json(unit.config))
  static = {name: value for name, value in leaves.items() if name.rpartition(".")[2] not in _TRACED}
  return json.dumps([unit.experiment, static])


def shard(units: Sequence[Unit], index: int | None, count: int | None) -> list[Unit]:
  """Every `count`-th unit, beginning with number `index`.

  Where neither is given, a SLURM job array's (SLURM_ARRAY_TASK_ID, _MIN, _STEP, _COUNT), and all units outside of one.

  Raises:
    ValueError: only one is given, `index` is not below `count`, or the job array's variables are not all there.
  """
  if index is None and count is None and any(os.environ.get(name) for name in _ARRAY):
    why = f"{', '.join(_ARRAY)} say together which part of the units this is; else give shard_index and num_shards"
    number, least, step, count = (environment_number(name, why) for name in _ARRAY)
    index = (number - least) // max(step, 1)
  require((index is None) == (count is None), "shard_index", index, f"given together with num_shards={count}")
  index, count = index or 0, 1 if count is None else count
  require(count >= 1, "num_shards", count, "at least 1")
  require(0 <= index < count, "shard_index", index, f"0 to {count - 1}, with num_shards={count}")
  return list(units[index::count])


def describe(unit: Unit, grid: Mapping[str, Sequence[Any]]) -> str:
  """Such as `task.chain_length=2, seeds 0-31`: where in the grid the unit lies."""
  leaves = results.flatten(configs.to_json(unit.config))
  point = [f"{field}={leaves[field]}" for field, values in grid.items() if len(values) > 1]
  return ", ".join([*point, f"seeds {unit.seed_numbers[0]}-{unit.seed_numbers[-1]}"])
