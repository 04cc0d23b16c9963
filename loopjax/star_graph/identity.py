"""What makes a group of students: it lies beside their checkpoints, and a folder of another group is refused.

Shapes: S students.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from loopjax.models.transformer import Transformer
from loopjax.runtime import config as configs
from loopjax.runtime import seeds
from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import ObjectiveConfig
from loopjax.training import checkpoints
from loopjax.training.step import Training


def identity(
  tasks: Sequence[StarGraph], model: Transformer, config: Training, seed_numbers: Sequence[int],
  objectives: Sequence[ObjectiveConfig], params: Any = None,
) -> dict[str, Any]:  # fmt: skip
  """What makes a group of students, as JSON; `params` are those to begin with, or more, where they are not fresh."""
  return {
    "tasks": {str(i): configs.to_json(task) for i, task in enumerate(tasks)},
    "model": configs.to_json(model),
    "training": configs.to_json(config),
    "seeds": [int(seed) for seed in seed_numbers],
    "objective": type(objectives[0]).__name__,
    "objectives": {str(i): configs.to_json(objective) for i, objective in enumerate(objectives)},
    "initial_parameters": None if params is None else _digest(params, len(tasks) * len(seed_numbers)),
  }


def _digest(params: Any, num_rows: int) -> str:
  """A hash of the arrays of all students, whatever devices they lie on, and without their padding."""
  total = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    total.update(jax.tree_util.keystr(path).encode())
    total.update(np.ascontiguousarray(seeds.to_host(leaf, num_rows)).tobytes())
  return total.hexdigest()[:16]


def read_identity(folder: str | os.PathLike[str]) -> dict[str, Any]:
  """The identity in a folder, with all its parts."""
  path = Path(folder) / "config.json"
  run = checkpoints.load_config(folder)
  parts = {"tasks": dict, "model": dict, "training": dict, "seeds": list, "objective": str, "objectives": dict}
  for name, kind in parts.items():
    part = run.get(name) if isinstance(run, dict) else None
    require(isinstance(part, kind) and len(part) > 0, f"{path}: {name}", part, f"a {kind.__name__} that is not empty")
  return run
