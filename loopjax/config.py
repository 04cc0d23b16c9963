"""Typed, validated configs: the check every config uses, JSON, changes by dotted name, flags, and the binaries' `main`.

A config is a frozen dataclass with defaults, whose fields are bool, int, float, str, tuples of one of these
(`tuple[float, ...]`) or further configs. It validates itself in `__post_init__` with `require`. An int is accepted for
a float, also from the command line.

A binary is

    CONFIG = config.flags(Experiment())

    def main() -> None:
      experiment = CONFIG()  # --config.task.num_chains=5 has been applied, the result validated

    if __name__ == "__main__":
      config.run_main(main)
"""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import ml_collections
from absl import app, logging
from absl import flags as absl_flags
from ml_collections import config_flags

absl_flags.disclaim_key_flags()  # the flags defined by `flags` belong to the binary that calls it

Config = TypeVar("Config")

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


def to_json(config: Any) -> dict[str, Any]:
  """The fields of a config as nested dicts, tuples as lists: what `json.dumps` and `from_json` take."""
  return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
  if dataclasses.is_dataclass(value):
    return to_json(value)
  return [_plain(item) for item in value] if isinstance(value, tuple) else value


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


def _leaves(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  """The values of the nested dict `tree` by dotted name."""
  leaves: dict[str, Any] = {}
  for key, value in tree.items():
    leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
  return leaves


def flags(default: Config, name: str = "config") -> Callable[[], Config]:
  """Defines a flag for each field of a config, `--config.task.num_chains=5`, tuples as `--config.temperatures=0,1`.

  `config_flags` sets fields in place and unchecked, which a frozen config does not allow: it is given a mutable mirror,
  from which the config is rebuilt. It reads `sys.argv` here, at definition, to know which flags to define; names
  that are no field are kept from it, so that the parser reports them like every unknown flag.

  Returns:
    A function that gives the validated config once flags are parsed; it raises `ValueError` as `from_json`.
  """
  cls = type(default)
  mirror = dataclasses.asdict(from_json(cls, to_json(default)))  # type: ignore[call-overload]  # floats are floats here
  leaves = _leaves(mirror, f"{name}.")
  listing = " ".join(f"--{leaf}={value}" for leaf, value in leaves.items())

  def is_no_unknown_field(argument: str) -> bool:
    match = re.match(rf"--?(?:no)?({re.escape(name)}\.[^=]*)", argument)
    return match is None or match[1] in leaves

  holder = config_flags.DEFINE_config_dict(
    name,
    ml_collections.ConfigDict(mirror),
    help_string=f"The settings; one flag a field, by default {listing}",
    sys_argv=list(filter(is_no_unknown_field, absl_flags.FLAGS.read_flags_from_files(sys.argv, force_gnu=False))),
  )
  absl_flags.declare_key_flag(name)  # so that --help shows it
  return lambda: from_json(cls, typing.cast(ml_collections.ConfigDict, holder.value).to_dict())


def run_main(main: Callable[[], None]) -> None:
  """Parses the flags and runs `main`: what a binary ends with.

  A mistake of the user (a flag that does not parse, an argument that is no flag, a `ValueError`) ends with one line
  on stderr and exit status 2; `--verbosity=1` adds the traceback. Every other exception keeps its traceback.
  """

  def run(argv: list[str]) -> None:
    if not absl_flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)  # Orbax tells of every save otherwise
    with _one_line_errors():
      require(len(argv) == 1, "arguments", argv[1:], "flags, such as --config.task.num_chains=5")
      main()

  app.run(run, flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
  with _one_line_errors():
    try:
      return absl_flags.FLAGS(argv)
    except absl_flags.UnrecognizedFlagError as error:
      name, _, path = error.flagname.partition(".")
      tree = absl_flags.FLAGS[name].default if name in absl_flags.FLAGS else None
      if path and isinstance(tree, ml_collections.ConfigDict):
        _changed(tree.to_dict(), path, error.flagvalue.partition("=")[2], f"{name}.")  # raises, naming the fields
      raise


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
  try:
    yield
  except (ValueError, absl_flags.Error) as error:
    logging.debug("The traceback of the error below:", exc_info=True)
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)
