"""The command `loopjax-traces`: loops in traces of real models, and traces from any server.

`loopjax-traces scan --help` and `loopjax-traces generate --help` show every flag.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loopjax.traces import generate_flags

_EPILOG = """FILES may be files, folders and patterns such as "runs/**/*.jsonl". gzip and zstd are unpacked on the fly.
The exit status is 0 where responses were found, 1 where none was, 2 where a flag or a folder is not as it must be, or
where --strict met a record that cannot be read. See docs/traces.md."""


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: the words after the command's name; those of the process where left out.

  Returns:
    The exit status.
  """
  arguments = _parser().parse_args(argv)
  try:
    return arguments.run(arguments)
  except (ValueError, OSError, ImportError) as error:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print("\nstopped; with an output folder or file the same command goes on from here", file=sys.stderr)
    return 130


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser("loopjax-traces", description="Loops in traces of real language models.")
  commands = parser.add_subparsers(required=True, metavar="COMMAND")
  scan = commands.add_parser(
    "scan", help="measure the loops in files of responses", description="Measures the loops in files of responses.",
    epilog=_EPILOG,
  )  # fmt: skip
  scan.set_defaults(run=_scan)
  scan.add_argument("files", nargs="+", metavar="FILES", help="what to read")
  for name, options in _FLAGS.items():
    scan.add_argument(f"--{name}", **options)
  generate = commands.add_parser(
    "generate", help="make responses with an OpenAI-compatible server",
    description="Makes responses with an OpenAI-compatible server.", epilog=generate_flags.EPILOG,
  )  # fmt: skip
  generate.set_defaults(run=generate_flags.run)
  generate_flags.add(generate)
  return parser


_FLAGS: dict[str, dict[str, Any]] = {
  "output_dir": dict(
    default="", help="folder for responses.parquet, summary.json, figures and report.html; a stopped run goes on there"
  ),
  "json": dict(action="store_true", help="print the summary as JSON in place of the table"),
  "strict": dict(action="store_true", help="stop at the first record that cannot be read"),
  "units": dict(
    default="ids",
    choices=("ids", "characters", "words"),
    help="what is counted; ids (the default): the file's, else words",
  ),
  "tokenizer": dict(default="", metavar="FILE", help="a tokenizer.json, whose tokens are then the units of every text"),
  "format": dict(default="", metavar="NAME", help="the format of every record; found record by record if left out"),
  "n": dict(type=int, default=30, help="units of an n-gram, for the recurrence (n, k); 30 by default"),
  "k": dict(type=int, default=20, help="times that an n-gram occurs in a recurrence, at least; 20 by default"),
  "min_length": dict(type=int, default=30, help="units that a locked cycle has at least; 30 by default"),
  "model": dict(
    default="", help="name of the model where a file has none; {file} and {folder} stand for the names of theirs"
  ),
  "temperature": dict(type=float, default=None, help="temperature where a file has none"),
  "student": dict(default="", metavar="MODEL", help="compare this model, problem by problem, with --teacher"),
  "teacher": dict(default="", metavar="MODEL", help="the model that --student is compared with"),
  "max_mebibytes": dict(
    type=int, default=64, help="longest record that is read, 64 by default; memory is bounded by a multiple of it"
  ),
}


def _scan(arguments: argparse.Namespace) -> int:
  from loopjax.runtime import config
  from loopjax.traces import measure, readers, text
  from loopjax.traces import scan as scans

  config.require(bool(arguments.student) == bool(arguments.teacher), "student", arguments.student, "given with teacher")
  config.require(arguments.max_mebibytes >= 1, "max_mebibytes", arguments.max_mebibytes, "at least 1")
  settings = measure.Settings(arguments.units, arguments.tokenizer, arguments.n, arguments.k, arguments.min_length)
  source = scans.Source(
    files=tuple(readers.find_files(arguments.files)),
    format=arguments.format,
    limit=arguments.max_mebibytes * 2**20,
    model=arguments.model,
    temperature=arguments.temperature,
    strict=arguments.strict,
  )
  progress = text.Progress(sum(map(os.path.getsize, source.files)))
  output = Path(arguments.output_dir) if arguments.output_dir else None
  summary = _measured(source, settings, output, progress, (arguments.student, arguments.teacher))
  _print(summary, arguments.json)
  return 0 if summary["table"] else 1


def _measured(source: Any, settings: Any, output: Path | None, progress: Any, pair: tuple[str, str]) -> dict[str, Any]:
  """The summary; with an output folder, the files in it are written."""
  import contextlib

  from loopjax.runtime import files
  from loopjax.traces import outputs
  from loopjax.traces import scan as scans

  with files.locked(output) if output else contextlib.nullcontext():
    try:
      columns, problems = scans.scan(source, settings, output, progress)
    finally:
      progress.close()
    summary = outputs.summary(columns, problems, source, settings, pair)
    if output:
      outputs.write(output, columns, summary)
  return summary


def _print(summary: dict[str, Any], as_json: bool) -> None:
  from loopjax.traces import text

  told = text.problems(**summary["problems"])
  if told:
    print(told, file=sys.stderr)
  if as_json:
    print(json.dumps(summary, indent=2, allow_nan=False))
    return
  print(text.table(summary["table"]))
  if compared := text.comparisons(summary):
    print(f"\n{compared}")


if __name__ == "__main__":
  sys.exit(main())
