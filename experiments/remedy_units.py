"""One remedy on one base: its students trained, or the plain ones decoded otherwise, and a row for all that is
measured.

A *base* is a task on which plain students loop. Every remedy has the same seeds, graphs, steps and temperatures, and as
many trials as any other. A decoding remedy is applied to the exact teacher too: what it does to a law without error is
its damage.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pandas as pd

from experiments.fit import with_losses
from experiments.remedy_catalogue import DECODING, TRAINING, DecodingRemedy, TrainingRemedy
from loopjax.analysis.looping import evaluate_looping
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.settings import Generation, at_temperatures
from loopjax.models.transformer import Transformer
from loopjax.remedies import reversed_chain
from loopjax.remedies.hinted import Hinted
from loopjax.runtime import seeds
from loopjax.star_graph import fitness, student_functions, theory
from loopjax.star_graph.contrasted import Pair
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.null_worlds import Law, law_students
from loopjax.star_graph.sharing import Obtain, Request, repeated_parameters
from loopjax.star_graph.students import Students
from loopjax.training.step import Training

FOLDER = "remedies"  # of results and checkpoints, under those of all experiments
PLAIN = "temperature alone"
_TEACHER_COLUMNS = ("reached", "capped_length", "divergence")
_IN_NODES = ["capped_length", "response_length", "successful_length", "forward_passes"]


@dataclasses.dataclass(frozen=True)
class Unit:
  """What is computed at once, and kept.

  Attributes:
    remedy: its name in the catalogue, or `PLAIN`.
    trials: the numbers of its trials; 0 is the default.
    settings: what they are, as text, so that another catalogue makes another unit.
    base: the name of the task.
    task: the task.
    model: the students' architecture.
    training: how they are trained.
    temperatures: of the walks.
    first_seed: the first of the seeds.
    num_seeds: their number.
    num_graphs: graphs that each student walks, the same for all trials and temperatures.
  """

  remedy: str
  trials: tuple[int, ...]
  settings: tuple[str, ...]
  base: str
  task: StarGraph
  model: Transformer
  training: Training
  temperatures: tuple[float, ...]
  first_seed: int
  num_seeds: int
  num_graphs: int

  @property
  def name(self) -> str:
    """Of its results, without blanks."""
    return "_".join([*f"{self.base} {self.remedy}".replace("-", " ").split(), str(self.first_seed)]).lower()

  @property
  def numbers(self) -> range:
    return seeds.block(self.first_seed, self.num_seeds)


def settings_of(remedy: str, trials: tuple[int, ...]) -> tuple[str, ...]:
  """The trials of a remedy as text."""
  if remedy == PLAIN:
    return ()
  entry = DECODING.get(remedy) or TRAINING[remedy]
  return tuple(entry.settings()[trial] for trial in trials)


def plain_request(unit: Unit, training: Training | None = None) -> Request:
  """The students without any remedy, by default fully trained: one group for all units of a base and its seeds."""
  training = training or unit.training
  name = f"{FOLDER}/{unit.base.replace(' ', '_')}_{training.num_steps}_{unit.first_seed}"
  return Request(name, [unit.task], unit.model, training, unit.numbers)


def measure_unit(unit: Unit, obtain: Obtain) -> pd.DataFrame:
  """A row per trial, temperature and seed: what `evaluate_looping` gives, excess_length, and costs.

  Hints that a student says before it walks count as nodes of its walks.
  """
  if unit.remedy == PLAIN:
    frame = _plain(unit, obtain)
  elif unit.remedy in DECODING:
    frame = _decoded(DECODING[unit.remedy], unit, obtain)
  else:
    frame = _trained(TRAINING[unit.remedy], unit, obtain)
  length = theory.teacher_statistics(dataclasses.replace(unit.task, injected_share=0.0)).response_length
  frame["excess_length"] = frame["capped_length"] / length
  named = dict(zip(unit.trials, unit.settings, strict=False))
  front = {"base": unit.base, "remedy": unit.remedy, "trial": frame.pop("trial")}
  return pd.concat([pd.DataFrame(front).assign(setting=[named.get(t, PLAIN) for t in front["trial"]]), frame], axis=1)


def _plain(unit: Unit, obtain: Obtain) -> pd.DataFrame:
  """Plain students, with the losses that claims ask of them before they believe anything."""
  students = obtain(plain_request(unit))
  frame = _walk(students, unit, at_temperatures(unit.temperatures), passes=1)
  if not obtain.claims_only:
    frame = with_losses(frame, fitness.evaluate_losses(students, num_graphs=unit.num_graphs, seed=0))
  return students.label(frame).assign(trial=0)


def _walk(students: Students, unit: Unit, generation: Generation, *, passes: int) -> pd.DataFrame:
  """What is measured of students, their costs beside; a node costs `passes` forward passes."""
  frame = evaluate_looping(students, generation=generation, num_graphs=unit.num_graphs, seed=0)
  return frame.assign(
    forward_passes=passes * frame["response_length"], trained_positions=trained_positions(students)[frame["row"]]
  )


def trained_positions(students: Students) -> np.ndarray:
  """The positions that each student was trained on, [S]; 0 where it was not trained."""
  history = students.history.sort_values(["row", "step"])
  steps = history["step"] - history.groupby("row")["step"].shift(fill_value=0)  # of a chunk, whose mean a line has
  each = (history["trained_positions"] * steps).groupby(history["row"]).sum()
  return each.reindex(range(len(students.is_finite)), fill_value=0.0).to_numpy(float)


def _decoded(remedy: DecodingRemedy, unit: Unit, obtain: Obtain) -> pd.DataFrame:
  """Plain students under the remedy; columns teacher_... have what it does to the exact teacher."""
  strengths = [remedy.strengths[trial] for trial in unit.trials]
  generation = remedy.generation(strengths, unit.temperatures)
  students = obtain(plain_request(unit))
  walking = _walking(remedy, students, unit, obtain)
  frame = students.label(_walk(walking, unit, generation, passes=remedy.passes))
  if remedy.walks_as is None:
    law = Law("teacher", loop_posterior=False)
    exact = law_students(law, [unit.task], unit.training, unit.numbers, students.mesh)
    of_teacher = evaluate_looping(exact, generation=generation, num_graphs=unit.num_graphs, seed=0)
    for column in _TEACHER_COLUMNS:
      frame[f"teacher_{column}"] = of_teacher[column].to_numpy()
  trials = [unit.trials[strengths.index(strength)] for strength in frame[remedy.processor.name]]
  kept = frame.drop(columns=[name for name in generation.labels() if name != Temperature.name])
  return kept.assign(trial=trials)


def _walking(remedy: DecodingRemedy, students: Students, unit: Unit, obtain: Obtain) -> Students:
  """The students as they walk under the remedy."""
  if remedy.walks_as is None:
    return students
  if remedy.amateur_share > 0:
    plain, until = plain_request(unit), round(remedy.amateur_share * unit.training.num_steps)
    amateurs = obtain(plain._replace(name=f"{plain.name}_until_{until}", until=until))
    students = students._replace(
      state=students.state._replace(params=Pair(students.state.params, amateurs.state.params))
    )
  return students._replace(model=remedy.walks_as(students.model))


def _trained(remedy: TrainingRemedy, unit: Unit, obtain: Obtain) -> pd.DataFrame:
  """Students of the remedy: all trials in one program, or one after the other where architectures differ."""
  unit = dataclasses.replace(unit, model=remedy.model(unit.model, unit.task))
  if not remedy.architectures:
    return _trained_together(remedy, unit, unit.trials, obtain)
  architectures, frames = list(remedy.architectures.values()), []
  for trial in unit.trials:
    own = dataclasses.replace(unit, model=architectures[trial](unit.model, unit.task))
    frames.append(_trained_together(remedy, own, (trial,), obtain))
  return pd.concat(frames, ignore_index=True)


def _trained_together(remedy: TrainingRemedy, unit: Unit, trials: tuple[int, ...], obtain: Obtain) -> pd.DataFrame:
  """Students of trials of one architecture, in one program."""
  objectives = [remedy.objectives[0 if remedy.architectures else trial] for trial in trials]
  training, params, earlier = unit.training, None, np.zeros(unit.num_seeds * len(trials))
  if remedy.is_continued:
    training = dataclasses.replace(training, num_steps=training.num_steps // 2)
    begun = obtain(plain_request(unit, training))
    params = repeated_parameters(begun, len(objectives))
    earlier = np.tile(trained_positions(begun), len(trials))
  request = Request(
    "_".join([f"{FOLDER}/{unit.name}", *(str(trial) for trial in trials if remedy.architectures)]),
    [unit.task] * len(objectives), unit.model, training, unit.numbers, {"trial": trials}, objectives,
  )  # fmt: skip
  began = time.monotonic()
  students = obtain(request, params=params)
  seconds = time.monotonic() - began
  walking = students._replace(model=student_functions.walking_model(objectives[0], students.model))
  frame = _walk(walking, unit, at_temperatures(unit.temperatures), passes=1)
  frame["trained_positions"] += earlier[frame["row"]]
  if isinstance(walking.model, Hinted):
    frame[_IN_NODES] += reversed_chain.check(unit.task, unit.model)
  return students.label(frame).assign(train_seconds=seconds / len(students.is_finite))
