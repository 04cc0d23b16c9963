"""Flags for the fields of a config, and what a binary ends with.

A binary is

    CONFIG = command_line.flags(Experiment())

    def main() -> None:
      experiment = CONFIG()  # --config.task.num_chains=5 has been applied, the result validated

    if __name__ == "__main__":
      command_line.run_main(main)
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import re
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, logging
from absl import flags as absl_flags

from loopjax.runtime.config import Config, is_untold, leaves, replace, require, to_json

absl_flags.disclaim_key_flags()  # the flags defined by `flags` belong to the binary that calls it

_FLAGS: dict[type, tuple[Callable[..., absl_flags.FlagHolder], absl_flags.ArgumentParser]] = {
  bool: (absl_flags.DEFINE_bool, absl_flags.BooleanParser()),
  int: (absl_flags.DEFINE_integer, absl_flags.IntegerParser()),
  float: (absl_flags.DEFINE_float, absl_flags.FloatParser()),
  str: (absl_flags.DEFINE_string, absl_flags.ArgumentParser()),
}


def flags(default: Config, name: str = "config") -> Callable[..., Config]:
  """Defines a flag for each field of a config: `--config.task.num_chains=5`, tuples as `--config.temperatures=0,1`.

  `--help` shows them all, each with the text that the dataclass's docstring has for the field under `Attributes:`. A
  flag given twice has its last value.

  Returns:
    A function that gives the validated config once flags are parsed: what the flags that were given make of its
    argument, a config of the same class; by default of `default`. It raises `ValueError` as `from_json`.
  """
  values = leaves(to_json(default), "")
  parsed: dict[str, Callable[[], Any]] = {}
  for path, kind, text in described_leaves(type(default), ""):
    parsed[path] = _define(f"{name}.{path}", kind, values[path], text)

  def changed(base: Config = default) -> Config:
    given = {path: value for path, value in parsed.items() if absl_flags.FLAGS[f"{name}.{path}"].present}
    return replace(base, {path: value() for path, value in given.items()})

  return changed


def _define(flag: str, kind: Any, default: Any, text: str) -> Callable[[], Any]:
  """Defines one flag of type `kind`; what it returns gives its value."""
  if typing.get_origin(kind) is not tuple:
    holder = _FLAGS[kind][0](flag, default, text)
    return lambda: holder.value
  listed = absl_flags.DEFINE_list(flag, list(map(str, default)), text)
  return lambda: [_parsed(typing.get_args(kind)[0], word) for word in listed.value]


def _parsed(kind: type, word: str) -> Any:
  """A word of the command line as the type `kind`; unchanged where it is not one: `_convert` refuses it by name."""
  try:
    return _FLAGS[kind][1].parse(word)
  except ValueError:
    return word


def described_leaves(cls: type, prefix: str) -> Iterator[tuple[str, Any, str]]:
  """Dotted name, type and text of every field that is no config and not `untold`, those of subconfigs included."""
  kinds, texts = typing.get_type_hints(cls), _field_texts(cls)
  for field in itertools.filterfalse(is_untold, dataclasses.fields(cls)):
    kind = kinds[field.name]
    if dataclasses.is_dataclass(kind):
      yield from described_leaves(kind, f"{prefix}{field.name}.")  # type: ignore[arg-type]
    else:
      yield prefix + field.name, kind, texts.get(field.name, "")


def _field_texts(cls: type) -> dict[str, str]:
  """What the class's docstring says of each field under `Attributes:`, each text on one line."""
  section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
  entries = re.findall(r"^  (\w+): (.*(?:\n {4,}.*)*)", section, re.MULTILINE)
  return {field: " ".join(text.split()) for field, text in entries}


def run_main(main: Callable[[], None]) -> None:
  """Parses the flags and runs `main`: what a binary ends with.

  A mistake of the user (a flag that does not parse, an argument that is no flag, a `ValueError`) and what the file
  system refuses (an `OSError`) end with one line on stderr and exit status 2; `--verbosity=1` adds the traceback. Every
  other exception keeps its traceback.
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
      _name_fields(error.flagname, error.flagvalue.partition("=")[2])
      raise


def _name_fields(flag: str, value: str) -> None:
  """Raises the error of an unknown flag that begins as a config's do, naming the fields that are there."""
  parts = flag.split(".")
  for end in range(len(parts), 0, -1):
    above = parts[:end]
    known = [name.split(".") for name in absl_flags.FLAGS]
    fields = dict.fromkeys(".".join(name[: end + 1]) for name in known if name[:end] == above)
    require(not fields, flag, value, "one of the fields " + ", ".join(fields))


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
  try:
    yield
  except (ValueError, OSError, absl_flags.Error) as error:
    logging.debug("The traceback of the error below:", exc_info=True)
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)
