"""The students of `experiments.observations`: its settings, its conditions, and the groups in which these train.

A condition is one kind of student. Those that one compiled program can train are a group. Every other condition differs
from `base` in one thing, unless its name says more.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from experiments.sizes import COLD_TO_WARM, small_student
from loopjax.models.transformer import Transformer
from loopjax.remedies.distillation import StudentTaught
from loopjax.remedies.policy_gradient import PolicyGradient
from loopjax.runtime import seeds
from loopjax.runtime.config import check_fields, require, require_temperatures
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import row_length
from loopjax.star_graph.sharing import Obtain, Request, repeated_parameters
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

FOLDER = "observations"  # of the results of groups, under those of all experiments
TEMPERATURE, SIZE, TEACHERS, HARDNESS, RESETS, LIGHT_RL = OBSERVATIONS = (
  "temperature", "size", "teachers", "hardness", "resets", "light_rl"
)  # fmt: skip
BASE, EASY, TAUGHT = "base", "easy", "taught by the deepest"
NO_RESETS, STRAIGHT = "no resets", "no resets, no exploration"
MORE_LIKELIHOOD, AFTER_RL = "after more likelihood", "after light RL"
DEPTH_EXPONENT = -0.7  # of learning rates: 8e-3, 5e-3, 3e-3 at 1, 2, 4 layers, as pilots of losses found them


@dataclasses.dataclass(frozen=True)
class Observations:
  """Settings of the experiment.

  Attributes:
    which: the observations that are made.
    task: the task of `base`.
    easy: the easy task of `hardness`.
    chain_lengths: of the other tasks of `hardness`, in rising order.
    num_chains: likewise.
    model: the architecture of `base`.
    depths: numbers of layers of other students, in rising order.
    widths: of other students, in rising order; these have the first of `depths`.
    training: how `base` is trained. Other sizes have the same steps, and learning rates as `sized_training` has them.
    rl: what light reinforcement learning is.
    rl_training: how long it lasts.
    temperatures: of the walks.
    num_seeds: students per condition.
    first_seed: their first seed.
    num_graphs: graphs that each student walks, once per temperature.
  """

  which: tuple[str, ...] = OBSERVATIONS
  task: StarGraph = StarGraph(num_chains=4, chain_length=2, max_steps=32, explore_prob=0.5)
  easy: StarGraph = StarGraph(num_chains=4, chain_length=1, max_steps=32, explore_prob=0.5)
  chain_lengths: tuple[int, ...] = (3,)
  num_chains: tuple[int, ...] = (2, 8)
  model: Transformer = small_student(1)
  depths: tuple[int, ...] = (2, 4)
  widths: tuple[int, ...] = (32, 128)
  training: Training = Training(num_steps=2_000, rows_per_step=16, learning_rate=8e-3)
  rl: PolicyGradient = PolicyGradient()
  rl_training: Training = Training(num_steps=200, rows_per_step=16, learning_rate=3e-4, warmup_steps=20)
  temperatures: tuple[float, ...] = COLD_TO_WARM
  num_seeds: int = 16
  first_seed: int = 0
  num_graphs: int = 128

  def __post_init__(self) -> None:
    check_fields(self)
    is_known = len(self.which) > 0 and set(self.which) <= set(OBSERVATIONS)
    require(is_known, "which", self.which, f"one or more of {OBSERVATIONS}")
    require_temperatures(self.temperatures)
    require({0.0, 1.0} <= set(self.temperatures), "temperatures", self.temperatures, "with 0 and 1, which are compared")
    seeds.block(self.first_seed, self.num_seeds)
    require(self.num_graphs >= 1, "num_graphs", self.num_graphs, "at least 1")
    require(self.rl.share > 0, "rl.share", self.rl.share, "above 0: likelihood alone comes beside")
    self._check_sizes()
    for task in self.tasks().values():
      task.check_prefers_forward()
      row_length(task, self.training)
    row_length(self.task, self.rl_training)

  def _check_sizes(self) -> None:
    layers = self.model.num_layers
    for name, least in (("depths", layers + 1), ("widths", 1), ("chain_lengths", 1), ("num_chains", 1)):
      values = getattr(self, name)
      allowed = f"in rising order, from {least} on"
      require(list(values) == sorted(values) and all(x >= least for x in values), name, values, allowed)
    missing = len(self.depths) == 0 and (len(self.widths) > 0 or TEACHERS in self.which)
    require(not missing, "depths", self.depths, f"one or more where there are widths, or {TEACHERS!r} among `which`")
    self.models()  # checks the models

  def tasks(self) -> dict[str, StarGraph]:
    """Condition -> the task, where it is another than that of `base`."""
    change, tasks = dataclasses.replace, {BASE: self.task, EASY: self.easy}
    tasks |= {f"chain length {x}": change(self.task, chain_length=x) for x in self.chain_lengths}
    tasks |= {f"{x} chains": change(self.task, num_chains=x) for x in self.num_chains}
    tasks[NO_RESETS] = change(self.task, reset_prob=0.0)
    tasks[STRAIGHT] = change(self.task, reset_prob=0.0, explore_prob=0.0)
    return tasks

  def models(self) -> dict[str, Transformer]:
    """Condition -> the architecture, where it is another than that of `base`; the deepest is the last of `depths`."""
    models = {depth_name(x): dataclasses.replace(self.model, num_layers=x) for x in self.depths}
    for width in self.widths:
      name = f"{depth_name(self.depths[0])}, width {width}"
      models[name] = dataclasses.replace(self.model, num_layers=self.depths[0], width=width)
    return models

  def shown(self) -> dict[str, list[str]]:
    """Observation -> its conditions, in the order of the figure."""
    tasks = self.tasks()
    sizes = [BASE, *self.models()]
    harder = [name for name in tasks if name not in (BASE, NO_RESETS, STRAIGHT)]
    deepest = [depth_name(x) for x in self.depths[-1:]]
    all_of = {
      TEMPERATURE: sizes, SIZE: sizes, TEACHERS: [BASE, *deepest, TAUGHT], HARDNESS: [BASE, *harder],
      RESETS: [BASE, NO_RESETS, STRAIGHT], LIGHT_RL: [BASE, MORE_LIKELIHOOD, AFTER_RL],
    }  # fmt: skip
    return {name: all_of[name] for name in OBSERVATIONS if name in self.which}


def depth_name(num_layers: int) -> str:
  """Such as `4 layers`."""
  return f"{num_layers} layers"


def sized_training(config: Observations, model: Transformer) -> Training:
  """How a student of this size is trained: the same steps and rows, and a learning rate that fits it.

  It falls with the depth as pilots of losses found it (`sizes`), and with the width beyond that of `base`, in inverse
  proportion.
  """
  deeper, wider = model.num_layers / config.model.num_layers, max(1.0, model.width / config.model.width)
  rate = config.training.learning_rate * deeper**DEPTH_EXPONENT / wider
  return dataclasses.replace(config.training, learning_rate=rate)


@dataclasses.dataclass(frozen=True)
class Group:
  """Students that train in one program, and how they walk: what is computed at once, and kept.

  Attributes:
    name: short, without blanks.
    conditions: their names, T of them.
    tasks: T of them; they differ in probabilities alone.
    model: the architecture.
    training: how they are trained.
    objectives: T of them; none: maximum likelihood.
    temperatures: of the walks.
    first_seed: the first of the seeds.
    num_seeds: their number.
    num_graphs: graphs that each student walks.
  """

  name: str
  conditions: tuple[str, ...]
  tasks: tuple[StarGraph, ...]
  model: Transformer
  training: Training
  objectives: tuple[Any, ...]
  temperatures: tuple[float, ...]
  first_seed: int
  num_seeds: int
  num_graphs: int

  def request(self) -> Request:
    """What is asked for; the columns say what the students are."""
    columns = {
      "condition": self.conditions, "graph": [f"G({task.num_chains},{task.chain_length})" for task in self.tasks],
      "layers": [self.model.num_layers] * len(self.tasks), "width": [self.model.width] * len(self.tasks),
    }  # fmt: skip
    numbers = seeds.block(self.first_seed, self.num_seeds)
    asked = f"{FOLDER}_{self.name}", self.tasks, self.model, self.training, numbers, columns
    return Request(*asked, objectives=self.objectives or None)


def groups(config: Observations) -> list[Group]:
  """Those of the observations that are made, each once; groups come after those with which they begin."""
  wanted = {name for names in config.shown().values() for name in names}
  found = _plain_groups(config)
  if TAUGHT in wanted:
    deepest = config.models()[depth_name(config.depths[-1])]
    streams = 2 * config.training.streams_per_row  # of one walk each: about as many positions as a packed one has
    training = dataclasses.replace(config.training, streams_per_row=streams)
    found.append(
      _group(config, "taught", {TAUGHT: config.task}, training=training, objectives=(StudentTaught(deepest),))
    )
  if AFTER_RL in wanted:
    both = dataclasses.replace(config.rl, share=0.0), config.rl
    tasks = {MORE_LIKELIHOOD: config.task, AFTER_RL: config.task}
    found.append(_group(config, "light_rl", tasks, training=config.rl_training, objectives=both))
  return [group for group in found if wanted & set(group.conditions)]


def _plain_groups(config: Observations) -> list[Group]:
  """Fresh students that learn from the exact teacher; those without resets share a program."""
  tasks = config.tasks()
  without = {name: tasks.pop(name) for name in (NO_RESETS, STRAIGHT)}
  found = [_group(config, name.replace(" ", "_"), {name: task}) for name, task in tasks.items()]
  found.append(_group(config, "no_resets", without))
  for name, model in config.models().items():
    short = name.replace(",", "").replace(" ", "_")
    found.append(_group(config, short, {name: config.task}, model=model, training=sized_training(config, model)))
  return found


def _group(
  config: Observations, name: str, tasks: dict[str, StarGraph], *, model: Transformer | None = None,
  training: Training | None = None, objectives: tuple[Any, ...] = (),
) -> Group:  # fmt: skip
  return Group(
    name, tuple(tasks), tuple(tasks.values()), model or config.model, training or config.training, objectives,
    config.temperatures, config.first_seed, config.num_seeds, config.num_graphs,
  )  # fmt: skip


def students_of(config: Observations, group: Group, obtain: Obtain) -> Students:
  """The students of a group, after those with which they begin."""
  if TAUGHT in group.conditions:
    return _taught(config, group, obtain)
  if AFTER_RL in group.conditions:
    before = obtain(_one(config, BASE).request())
    return _known(obtain(group.request(), params=repeated_parameters(before, len(group.tasks))), before)
  return obtain(group.request())


def _one(config: Observations, condition: str) -> Group:
  """The group of fresh students that holds a condition."""
  return next(group for group in _plain_groups(config) if condition in group.conditions)


def _taught(config: Observations, group: Group, obtain: Obtain) -> Students:
  """Seed by seed taught by the deepest student of the same seed."""
  if obtain.claims_only:  # a world's students have no teacher
    return obtain(group.request())
  deepest = obtain(_one(config, depth_name(config.depths[-1])).request())
  carried = group.objectives[0].taught_by(deepest.state.params, config.task, group.training)
  return _known(obtain(group.request(), extra=carried), deepest)


def _known(students: Students, before: Students) -> Students:
  """The students, without those that began with one that diverged."""
  times = len(students.is_finite) // len(before.is_finite)
  return students._replace(is_finite=students.is_finite & np.tile(before.is_finite, times))
