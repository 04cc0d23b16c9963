"""Typed, validated configs: the check every config uses, JSON, and changes by dotted name.

A config is a frozen dataclass with defaults, whose fields are bool, int, float, str, tuples of one of these
(`tuple[float, ...]`) or further configs. It validates itself in `__post_init__`: first all fields with `check_fields`,
then with `require` what is its own. An int is accepted for a float, also from the command line.
"""

from __future__ import annotations

import collections
import dataclasses
import numbers
import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Config = TypeVar("Config")

LARGEST = 1e6  # of a float setting: far above any sensible one, and squares and sums of such stay below float32's 3e38
COLDEST = 1e-6  # temperature above 0: a log-probability over it stays a float32

MOST_CONDITIONS = 7  # that a figure tells apart by colour

_SCALARS: dict[type, tuple[type, str]] = {
  bool: (bool, "true or false"),
  int: (numbers.Integral, "an int"),
  float: (numbers.Real, "a float"),
  str: (str, "a string"),
}


def require(condition: bool, field: str, value: Any, allowed: str) -> None:
  """Raises a one-line `ValueError` naming field, value and what is allowed."""
  if not condition:
    raise ValueError(f"{field}={value!r} is not allowed: must be {allowed}")


def require_finite(field: str, value: float) -> None:
  """Raises, as `require`, where a float setting is NaN, infinite, or beyond `LARGEST` in size."""
  require(abs(value) <= LARGEST, field, value, f"finite, and at most {LARGEST:g} in size")  # NaN is not


def require_distinct(field: str, values: Sequence[Any]) -> None:
  """Raises, as `require`, where two values are the same, or would have one name: numbers are named as `:g` prints."""
  names = collections.Counter(value if isinstance(value, str) else f"{value:g}" for value in values)
  twice = [name for name, count in names.items() if count > 1]
  require(not twice, field, values, f"values that differ as they are printed; {', '.join(twice)} comes more than once")


def require_conditions(field: str, values: Sequence[Any]) -> None:
  """Raises, as `require`, unless there are conditions, and no more than a figure tells apart by colour."""
  require(1 <= len(values) <= MOST_CONDITIONS, field, values, f"1 to {MOST_CONDITIONS} values, a colour each")
  require_distinct(field, values)


def require_temperatures(values: Sequence[float], field: str = "temperatures") -> None:
  """Raises, as `require`, unless there are temperatures, each once, 0 or from `COLDEST` to `LARGEST`."""
  within = len(values) > 0 and all(value == 0 or COLDEST <= value <= LARGEST for value in values)
  require(within, field, values, f"one or more, each 0 or from {COLDEST:g} to {LARGEST:g}")
  require_distinct(field, values)


def environment_number(name: str, why: str) -> int:
  """The whole number in an environment variable; raises, as `require`, where there is none, saying why it is needed."""
  text = os.environ.get(name, "")
  require(text.isascii() and text.isdigit(), name, text, f"a whole number: {why}")
  return int(text)


def check_fields(config: Any, name: str = "") -> None:
  """What every config's `__post_init__` begins with: types, numbers and lists are checked, however it was made.

  Args:
    config: its fields that are configs have checked themselves.
    name: what errors call the config, such as `task`; empty for the outermost.

  Raises:
    ValueError: a field has another type, holds a number that `require_finite` refuses, or a list an item twice.
  """
  kinds, prefix = typing.get_type_hints(type(config)), f"{name}." if name else ""
  for field in dataclasses.fields(config):
    value = _convert(kinds[field.name], getattr(config, field.name), prefix + field.name)
    if isinstance(value, tuple):
      require_distinct(prefix + field.name, value)


_UNTOLD = "untold"  # in the metadata of a field


def untold(default: Any) -> Any:
  """A field that is not told at its default: configs have the text that they had without it, and no flag sets it."""
  return dataclasses.field(default=default, metadata={_UNTOLD: True})


def is_untold(field: dataclasses.Field[Any]) -> bool:
  """Whether the field was made by `untold`."""
  return _UNTOLD in field.metadata


def to_json(config: Any) -> dict[str, Any]:
  """The fields of a config as nested dicts, tuples as lists: what `json.dumps` and `from_json` take.

  An int in a field of floats becomes a float, so that equal configs have one text. An `untold` field is left out where
  it has its default.
  """
  kinds, values = typing.get_type_hints(type(config)), {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if not (is_untold(field) and value == field.default):
      values[field.name] = _plain(kinds[field.name], value)
  return values


def _plain(kind: Any, value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    return to_json(value)
  if isinstance(value, tuple):
    return [_plain(typing.get_args(kind)[0], item) for item in value]
  return float(value) if kind is float and isinstance(value, numbers.Real) else value


def from_json(cls: type[Config], data: Mapping[str, Any], name: str = "") -> Config:
  """The config of class `cls` with the fields in `data`; those left out keep their defaults.

  Args:
    cls: a config dataclass.
    data: what `to_json` gives; subconfigs may also be instances.
    name: what errors call the config itself, a dotted path; empty for the outermost.

  Raises:
    ValueError: an unknown or missing field, a value of the wrong type, or one that the config itself does not allow.
  """
  require(isinstance(data, Mapping), name or "config", data, f"a mapping of the fields of {cls.__name__}")
  prefix = f"{name}." if name else ""
  fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
  for key, value in data.items():
    _require_known(key, value, fields, prefix)
  for key, field in fields.items():
    has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    require(key in data or has_default, prefix + key, None, "given: it has no default")
  kinds = typing.get_type_hints(cls)
  return cls(**{key: _convert(kinds[key], value, prefix + key) for key, value in data.items()})


def _require_known(key: str, value: Any, allowed: Mapping[str, Any], prefix: str) -> None:
  require(key in allowed, prefix + key, value, "one of the fields " + ", ".join(prefix + known for known in allowed))


def _convert(kind: Any, value: Any, name: str) -> Any:
  """`value` as the type `kind` of the field `name`."""
  if dataclasses.is_dataclass(kind):
    return value if isinstance(value, kind) else from_json(kind, value, name)  # type: ignore[arg-type]
  if typing.get_origin(kind) is tuple:
    require(isinstance(value, (list, tuple)), name, value, "a list")
    return tuple(_convert(typing.get_args(kind)[0], item, f"{name}[{i}]") for i, item in enumerate(value))
  if kind not in _SCALARS:
    raise TypeError(f"{name}: config fields of type {kind} are not supported")
  accepted, allowed = _SCALARS[kind]
  require(isinstance(value, accepted) and isinstance(value, bool) == (kind is bool), name, value, allowed)
  if kind is int:
    require(-(2**31) <= value < 2**31, name, value, "an int32, from -2^31 to 2^31 - 1")
  if kind is float:
    require_finite(name, value)
  return kind(value)


def replace(config: Config, changes: Mapping[str, Any]) -> Config:
  """The config with the fields in `changes`, by dotted name, replaced, all of them before anything is validated.

  Example: `replace(config, {"task.num_chains": 3, "task.chain_length": 4})`.

  Raises:
    ValueError: as `from_json`.
  """
  tree = to_json(config)
  for name, value in changes.items():
    tree = _changed(tree, name, value)
  return from_json(type(config), tree)


def _changed(tree: Mapping[str, Any], name: str, value: Any, prefix: str = "") -> dict[str, Any]:
  """A copy of the nested dict `tree` with the entry of dotted `name` set; `ValueError` where there is none."""
  head, _, rest = name.partition(".")
  if head not in tree or (rest and not isinstance(tree[head], Mapping)):
    _require_known(name, value, tree, prefix)
  return {**tree, head: _changed(tree[head], rest, value, f"{prefix}{head}.") if rest else value}


def leaves(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  """The values of the nested dict `tree` by dotted name."""
  found: dict[str, Any] = {}
  for key, value in tree.items():
    found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
  return found
