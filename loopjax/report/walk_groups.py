"""Which students walk on the page. Every group of students is named there; as many as a page can bear walk.

A group is a folder of `students.train_students`, at any depth under `checkpoints/`. It takes seconds to walk, and up to
a megabyte of the page, and one experiment may leave a hundred of them. So a page has limits, and says what it leaves
out, and how to see it.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from loopjax.report import folder, traces
from loopjax.runtime import devices
from loopjax.runtime.config import require

MOST_GROUPS = 48  # on a page: each takes seconds
MOST_BYTES = 16_000_000  # of walks on a page; the first group has its place whatever its size
ALL = "*"  # the pattern of a page for which nobody has chosen


class Walks(NamedTuple):
  """The walks of a page.

  Attributes:
    groups: as `traces.group_walks` gives them.
    left_out: the names of the groups that are not on the page.
    most_seeds: how many students of a condition walk; None: all.
  """

  groups: list[dict[str, Any]]
  left_out: list[str]
  most_seeds: int | None


def find(checkpoints: Path) -> list[str]:
  """The names of all groups: their folders' paths under `checkpoints`."""
  found = []
  for path, folders, names in os.walk(checkpoints):
    if "config.json" in names:
      found.append(Path(path).relative_to(checkpoints).as_posix())
      folders.clear()  # what lies in a group is its own
  return sorted(found)


def read(checkpoints: Path, order: Sequence[str], problems: list[str], pattern: str = ALL) -> Walks:
  """The walks of the groups whose names match; what cannot be read adds to `problems`.

  Every experiment has its turn: the first group of each, then the second of each, until the page is full. Where all
  groups match, the first students of a condition walk; else all.

  Args:
    checkpoints: the folder.
    order: the experiments; the name of a group begins with that of its experiment.
    problems: a line for each group that cannot be read.
    pattern: of names, as shells have them, such as `remedies/*`.

  Raises:
    ValueError: no group matches.
  """
  names = find(checkpoints)
  wanted = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
  some = f"a pattern of folders in {checkpoints}, such as {names[:3]}"
  require(len(wanted) > 0 or pattern == ALL, "students", pattern, some)
  most_seeds = traces.MAX_SEEDS if pattern == ALL else None
  if not names:
    problems.append(f"{checkpoints}: has no students, so there are no walks to step through")
    return Walks([], [], most_seeds)
  mesh, size = devices.device_mesh(), 0
  found: dict[str, dict[str, Any] | None] = {}
  for name in in_turns(wanted, order)[:MOST_GROUPS]:
    group = folder.attempt(problems, lambda name=name: traces.group_walks(checkpoints / name, name, mesh, most_seeds))  # type: ignore[misc]
    size += len(json.dumps(group, separators=(",", ":")))
    if found and size > MOST_BYTES:
      break
    found[name] = group
  shown = sorted(found, key=lambda name: (_experiment(name, order), name))
  left_out = [name for name in names if name not in found]
  return Walks([group for group in map(found.get, shown) if group is not None], left_out, most_seeds)


def in_turns(names: Sequence[str], order: Sequence[str]) -> list[str]:
  """The first name of every experiment, then the second of every one, and so on."""
  by_experiment = itertools.groupby(
    sorted(names, key=lambda name: (_experiment(name, order), name)), lambda name: _experiment(name, order)
  )
  turns = itertools.zip_longest(*[list(group) for _, group in by_experiment])
  return [name for turn in turns for name in turn if name is not None]


def _experiment(name: str, order: Sequence[str]) -> int:
  """The number of the experiment of a group; those of none come last."""
  return min((i for i, experiment in enumerate(order) if name.startswith(experiment)), default=len(order))


def about(walks: Walks, results_dir: str | os.PathLike[str]) -> str:
  """What the page says of its students: whose walks it has, whose it has not, and the command that shows them."""
  if not walks.groups and not walks.left_out:
    return ""
  left_out = len(walks.left_out)
  who = "all their students" if walks.most_seeds is None else f"the first {walks.most_seeds} students of each condition"
  pattern = walks.left_out[0] if walks.left_out else "NAME"
  command = ["python", "-m", "experiments.report", f"--results_dir={results_dir}", f"--students={pattern}"]
  command.append("--output=students.html")
  names = "".join(f"<li><code>{escape(name)}</code></li>" for name in walks.left_out)
  listed = f"<details><summary>Groups that are not on this page: {left_out}</summary><ul>{names}</ul></details>"
  room = f"{MOST_GROUPS} groups and {MOST_BYTES // 1_000_000} MB of walks"
  return (
    f'<p class="hint">Groups of students that walk here: {len(walks.groups)}, with {who}. '
    f"Not on this page: {left_out}. A page has room for {room}. This command writes a page of other groups, with all "
    "their students. A pattern such as <code>remedies/*</code> chooses several.</p>"
    f'<pre tabindex="0"><code>{escape(shlex.join(command))}</code></pre>{listed if left_out else ""}'
  )
