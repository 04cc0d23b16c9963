"""Writes one self-contained HTML page from a results folder: claims, figures, settings, walks to step through.

`reproduce` ends with it; it can be made again from any such folder, with the students that are there. What cannot be
read is named, on the page and in lines on stderr, and the exit status is then 1.

  python -m experiments.report --results_dir=results/quick

A page has room for the walks of some groups of students, and names the others. To see these:

  python -m experiments.report --results_dir=results/quick --students='remedies/*' --output=students.html
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from experiments import reproduce
from loopjax import report
from loopjax.runtime import command_line, compilation_cache, devices


def main() -> None:
  results_dir = Path(_RESULTS_DIR.value)
  output = Path(_OUTPUT.value or results_dir / "report.html")
  problems = report.write(results_dir, output, reproduce.descriptions(), _STUDENTS.value)
  for problem in problems:
    print(f"not read: {problem}", file=sys.stderr)
  print(f"written to {output}")
  if problems:
    sys.exit(1)


if __name__ == "__main__":
  devices.use_all_cores()
  compilation_cache.enable()
  _RESULTS_DIR = flags.DEFINE_string("results_dir", None, "As `reproduce` writes it.", required=True)
  _OUTPUT = flags.DEFINE_string("output", None, "The HTML file; report.html in the results folder by default.")
  _STUDENTS = flags.DEFINE_string("students", "*", "Whose walks are shown: a pattern of folders in checkpoints/.")
  command_line.run_main(main)
