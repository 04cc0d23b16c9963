"""Where the time of a train step goes: the longest operations of the compiled program, as shares of all of them.

python -m experiments.benchmarks.profile_step --width=64 --num_layers=2 --num_heads=4 --rows_per_step=16
"""

from __future__ import annotations

import collections
import re
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from experiments.benchmarks import rates
from loopjax.models.transformer import Transformer
from loopjax.runtime import command_line, devices, seeds
from loopjax.star_graph import students
from loopjax.star_graph.objective import teacher_forcing
from loopjax.training.step import Training, run_chunk

NUM_STEPS = 20


def profile(model: Transformer, config: Training) -> collections.Counter[str]:
  """Nanoseconds by operation over `NUM_STEPS` train steps of one seed on one device; loops count by their bodies."""
  mesh = devices.device_mesh()
  objective = teacher_forcing(rates.TASK, model, config)
  run = seeds.map_seeds(lambda state, steps: run_chunk(objective, config, state, steps), mesh)
  state = students.initial_states([rates.TASK], model, config, [0], mesh)
  program = run.lower(state, jnp.int32(NUM_STEPS)).compile()
  jax.block_until_ready(program(state, jnp.int32(NUM_STEPS)))
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      jax.block_until_ready(program(state, jnp.int32(NUM_STEPS)))
    (path,) = Path(folder).rglob("*.xplane.pb")
    return _nanoseconds(jax.profiler.ProfileData.from_file(str(path)), _sources(program.as_text() or ""))


def _sources(program: str) -> dict[str, str]:
  """For every operation of a compiled program the traced code that it stands for."""
  found = re.findall(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name=\"([^\"]*)\"", program, re.MULTILINE)
  return {name: re.sub(r"^.*?while/body/(closed_call/)?", "", source) for name, source in found}


def _nanoseconds(data: jax.profiler.ProfileData, sources: dict[str, str]) -> collections.Counter[str]:
  total: collections.Counter[str] = collections.Counter()
  for plane in data.planes:
    for line in plane.lines:
      for event in line.events:
        stats = dict(event.stats)
        if "hlo_op" in stats and not str(stats["hlo_op"]).startswith(("while", "call", "conditional")):
          name = str(stats["hlo_op"])
          total[f"{name}: {sources.get(name, '')}"] += int(event.duration_ns)
  return total


def main() -> None:
  model = rates.student(_WIDTH.value, _NUM_LAYERS.value, _NUM_HEADS.value)
  times = profile(model, Training(rows_per_step=_ROWS.value))
  total = sum(times.values())
  print(f"{total / NUM_STEPS / 1e6:.2f} ms a step in {len(times)} operations")
  for name, nanoseconds in times.most_common(_TOP.value):
    print(f"{nanoseconds / total:7.1%}  {nanoseconds / NUM_STEPS / 1e6:8.3f} ms  {name}")


if __name__ == "__main__":
  jax.config.update("jax_num_cpu_devices", 1)
  _WIDTH = flags.DEFINE_integer("width", 64, "Width of the student.", lower_bound=1)
  _NUM_LAYERS = flags.DEFINE_integer("num_layers", 2, "Its layers.", lower_bound=1)
  _NUM_HEADS = flags.DEFINE_integer("num_heads", 4, "Its heads.", lower_bound=1)
  _ROWS = flags.DEFINE_integer("rows_per_step", 16, "Rows of a step.", lower_bound=1)
  _TOP = flags.DEFINE_integer("top", 10, "Operations to show.", lower_bound=1)
  command_line.run_main(main)
