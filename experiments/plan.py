"""What a preset will train, and how long it will take, before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd
from jax.sharding import Mesh

from experiments.experiment import Experiment
from loopjax.models.transformer import Transformer
from loopjax.runtime import devices, seeds
from loopjax.star_graph import students, teacher
from loopjax.star_graph.objective import teacher_forcing
from loopjax.star_graph.sharing import Request
from loopjax.training import checkpoints
from loopjax.training.step import Training, run_chunk

SECONDS = 3.0  # of a program's timing, once it is compiled
PROGRAM = ["sizes", "model", "training"]
COLUMNS = ["experiment", "group", "students", "new_students", "seed_steps", *PROGRAM]


class Student(NamedTuple):
  """What two experiments must agree in to share a student; `sizes` are its task's without traced numbers."""

  task: Any
  model: Transformer
  training: Training
  seed: int


def requests(pairs: Sequence[tuple[Experiment, Any]]) -> pd.DataFrame:
  """A row per group of students: experiment, group, seed-steps, and those of students that no earlier group has."""
  rows, known = [], set[Student]()
  for experiment, config in pairs:
    for request in experiment.requests(config):
      asked = {
        Student(task, request.model, request.training, seed) for task in request.tasks for seed in request.seed_numbers
      }
      rows.append({
        "experiment": experiment.name, "group": request.name,
        "students": len(asked), "new_students": len(asked - known),
        "seed_steps": len(asked - known) * request.training.num_steps,
        "sizes": teacher.sizes_of(request.tasks[0]), "model": request.model, "training": request.training,
      })  # fmt: skip
      known |= asked
  return pd.DataFrame(rows, columns=COLUMNS)


def left(plan: pd.DataFrame, output_dir: Path) -> pd.Series:
  """The seed-steps of each group that are not done in the folder."""

  def steps(row: Any) -> int:
    done = checkpoints.latest_step(output_dir / "checkpoints" / row.group) or 0
    return row.new_students * max(0, row.training.num_steps - done)

  return pd.Series([steps(row) for row in plan.itertuples()], index=plan.index)


def rate(request: Request, mesh: Mesh) -> float:
  """Seed-steps per second of all devices, measured after compilation."""
  task, count = teacher.sizes_of(request.tasks[0]), mesh.shape[devices.SEED]
  objective = teacher_forcing(task, request.model, request.training)
  run = seeds.map_seeds(lambda state, steps: run_chunk(objective, request.training, state, steps), mesh, donate=True)
  state = students.initial_states([task], request.model, request.training, range(count), mesh)
  state, metrics = run(state, jnp.int32(1))
  steps, began = 0, time.monotonic()
  while time.monotonic() - began < SECONDS:
    state, metrics = run(state, jnp.int32(4))
    jax.block_until_ready(metrics)
    steps += 4
  return count * steps / (time.monotonic() - began)


def describe(plan: pd.DataFrame, output_dir: Path, mesh: Mesh) -> str:
  """The plan with hours of training for each group, and in all; evaluation comes on top, about a quarter of it."""
  plan = plan.assign(left=left(plan, output_dir))
  rates = {}
  for row in plan[plan["left"] > 0].itertuples():
    program = (row.sizes, row.model, row.training)
    if program not in rates:
      rates[program] = rate(Request(row.group, [row.sizes], row.model, row.training, [0]), mesh)
  per_second = [rates.get(tuple(row), float("nan")) for row in plan[PROGRAM].itertuples(index=False)]
  plan = plan.assign(rate=per_second, hours=plan["left"] / per_second / 3600)
  shown = plan[["experiment", "group", "students", "new_students", "seed_steps", "left", "rate", "hours"]]
  lines = [
    shown.round({"rate": 0, "hours": 2}).to_string(index=False),
    f"{plan['seed_steps'].sum():,} seed-steps, {plan['left'].sum():,} left: about {plan['hours'].sum():.1f} hours of "
    "training on these devices, and about a quarter of that again for evaluation",
  ]
  return "\n".join(lines)
