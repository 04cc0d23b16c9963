"""Two experiments small enough to be swept in tests, and the process that sweeps one."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from loopjax.runtime import devices, seeds
from loopjax.star_graph.graph import StarGraph
from loopjax.sweep import launch, store, units
from loopjax.sweep.units import Unit
from loopjax.training import runner
from loopjax.training.step import Objective, Training, TrainState, make_optimizer

GRID = {"scale": [1.0, 2.0]}


@dataclasses.dataclass(frozen=True)
class Toy:
  """Settings of both experiments; `scale` is all that either knows."""

  task: StarGraph = StarGraph(num_chains=2, chain_length=1)
  scale: float = 1.0
  temperatures: tuple[float, ...] = (0.0, 1.0)
  num_seeds: int = 4
  first_seed: int = 0


def make_units(seeds_per_unit: int = 2, grid=None, **settings) -> list[Unit]:
  settings = {"first_seed": 0, "num_seeds": 4} | settings
  return units.make_units("toy", Toy(), GRID if grid is None else grid, seeds_per_unit=seeds_per_unit, **settings)


def draw(config: Toy, work: Path) -> pd.DataFrame:
  """Two rows a seed, of its own random numbers; leaves a checkpoint as training would."""
  (work / "checkpoints").mkdir(parents=True, exist_ok=True)
  numbers = seeds.block(config.first_seed, config.num_seeds)
  rows = [(seed, t, np.random.default_rng(seed).normal() * config.scale) for seed in numbers for t in (0.0, 1.0)]
  return pd.DataFrame(rows, columns=["seed", "temperature", "value"])


def draw_or_die(config: Toy, work: Path) -> pd.DataFrame:
  """As `draw`, but the process that is first at seeds from 2 on is killed in the middle; all leave their names."""
  (work.parent.parent.parent / f"ran-{work.parent.name}-{os.getpid()}").touch()
  if config.first_seed >= 2 and not (work / "checkpoints").exists():
    draw(config, work)
    os.kill(os.getpid(), signal.SIGKILL)
  return draw(config, work)


def train(config: Toy, work: Path) -> pd.DataFrame:
  """One matrix a seed, from noise to noise, trained by the runner."""
  numbers, mesh = seeds.block(config.first_seed, config.num_seeds), devices.device_mesh()
  settings = Training(num_steps=12, learning_rate=0.01, warmup_steps=5, rows_per_step=4)

  def loss(params, batch, key, extra):
    return jnp.sum((jnp.tanh(batch[:, 0] @ params["w"]) - config.scale * batch[:, 1]) ** 2), jnp.float32(4), extra

  count = len(numbers)
  w = jnp.ones((count, 8, 8))
  opt_state = jax.vmap(make_optimizer(settings).init)({"w": w})
  keys = jax.vmap(jax.random.key)(jnp.asarray(numbers))
  state = TrainState(jnp.zeros(count, jnp.int32), {"w": w}, opt_state, keys, (), ())
  trained = runner.train(
    Objective(lambda key, task, extra: jax.random.normal(key, (2, 8)), loss), settings, seeds.place(state, mesh), mesh,
    num_seeds=count, folder=work / "checkpoints" / "toy", run_config={"scale": config.scale, "seeds": list(numbers)},
  )  # fmt: skip
  norms = np.sum(seeds.to_host(trained.state.params["w"], count) ** 2, axis=(1, 2))
  return pd.DataFrame({"seed": list(numbers), "value": norms})


def sweep(folder: Path, seeds_per_unit: int, shard_index: int = 0, num_shards: int = 1) -> None:
  """What `experiments.sweep` does, with this experiment and a checkpoint after every step; exits as it does."""
  runner.SECONDS_PER_CHUNK = runner.SECONDS_PER_SAVE = 0.0
  jax.config.update("jax_disable_most_optimizations", True)  # compiling takes nearly all of the time
  everything = make_units(seeds_per_unit)
  store.claim(folder, "toy", Toy(), GRID, everything)
  todo = units.shard(everything, shard_index, num_shards)
  with launch.exit_on_signals():
    not_done = launch.follow(launch.run_here(folder, todo, train, keep_work=False), todo, GRID)
  sys.exit(len(not_done))


if __name__ == "__main__":
  sweep(Path(sys.argv[1]), *map(int, sys.argv[2:]))
