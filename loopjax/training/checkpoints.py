"""Checkpoints: Orbax behind `save` and `load`.

A folder holds `config.json` and one subfolder per saved step. Orbax writes a step under a temporary name and renames
it, so that a process killed at any moment leaves the steps before intact and nothing half: `load` sees whole steps.

A state is any pytree of arrays, such as TrainState(step, params, opt_state, key, extra) with a leading axis of seeds;
bfloat16 and typed keys come back bit for bit. It is loaded into an *abstract state*: shapes, types and shardings
of the arrays to be made, which need not be those of the devices that saved it. Nothing is unpickled.

Shapes: S seeds.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from absl import logging as absl_logging
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from loopjax.runtime import files, seeds
from loopjax.runtime.config import require

State = TypeVar("State")

_CONFIG = "config.json"


def abstract(state: State) -> State:
  """The shapes, types and shardings of `state`, to load into.

  Leaves without a sharding (NumPy arrays, results of `jax.eval_shape`) get the first device of this process.
  """
  default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def describe(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None) or default)

  return jax.tree.map(describe, state)


@contextlib.contextmanager
def _checkpointer(folder: Path, **options: Any) -> Iterator[Any]:
  """Orbax's. Of a kill while an old step was being deleted part of it is left, until a later save deletes the rest:
  no cause for a warning each time that the steps are listed."""

  def is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Metadata file does not exist")

  logger = absl_logging.get_absl_logger()
  logger.addFilter(is_news)
  try:
    with ocp.training.Checkpointer(folder, **options) as checkpointer:
      yield checkpointer
  finally:
    logger.removeFilter(is_news)


def save(
  folder: str | os.PathLike[str], step: int, state: Any, *, config: Mapping[str, Any] | None = None, keep: int = 2
) -> None:
  """Saves `state` under `step`, and returns when it is on disk. All processes of a run must call it together.

  Args:
    folder: made if there is none; belongs to one run.
    step: past every step saved there.
    state: a pytree of arrays, with or without shardings.
    config: what made the state, saved beside it as JSON; None leaves what is there.
    keep: how many of the latest steps stay; older ones are deleted after the new one is whole.

  Raises:
    ValueError: a step that is not past the latest one saved, `keep` below 1, a config that is not JSON, or a leaf that
      could not come back: a Python number, or 64 bits where jax has them switched off.
  """
  require(keep >= 1, "keep", keep, "at least 1")
  _check_storable(state)
  folder = Path(folder).absolute()
  if config is not None and jax.process_index() == 0:  # first, so that no checkpoint is without
    files.write_json(config, folder / _CONFIG)
    for leftover in folder.glob(f"{_CONFIG}.tmp-*"):
      leftover.unlink(missing_ok=True)
  policy = ocp.training.preservation_policies.LatestN(keep)
  # A killed run's temporary files and folders are cleared away here, where this run is about to write, nowhere else.
  with _checkpointer(folder, preservation_policy=policy, cleanup_tmp_directories=True) as checkpointer:
    latest = checkpointer.latest
    if latest is not None and step <= latest.step:
      raise ValueError(f"{folder} holds step {latest.step}, so step {step} cannot be saved: resume, or a new folder")
    checkpointer.save(step, state, force=True)


def load(folder: str | os.PathLike[str], abstract_state: State) -> tuple[State, int] | None:
  """The latest state saved in `folder` and its step; None where there is none.

  Args:
    folder: as given to `save`; may be missing.
    abstract_state: what to expect: `abstract(state)`, or a state itself, whose values are not read. The arrays come
      back on its shardings.

  Raises:
    ValueError: one line that names the folder, a field, and its type and shape, found and expected, where the saved
      state is another one, or says that it is damaged.
  """
  with _latest(folder) as saved:
    return None if saved is None else (_restore(saved, abstract(abstract_state)), saved.step.step)


def load_rows(
  folder: str | os.PathLike[str], abstract_row: State, num_rows: int, mesh: Mesh
) -> tuple[State, int] | None:
  """As `load`, the first `num_rows` of states [S, ...] that any number of devices saved, each with its own padding.

  This process's first device must have room for all that was saved.

  Args:
    folder: as given to `save`; may be missing.
    abstract_row: what to expect of one row: shapes without the axis of seeds, and types.
    num_rows: how many are wanted.
    mesh: on which they are placed.

  Raises:
    ValueError: fewer rows were saved, or what `load` raises.
  """
  with _latest(folder) as saved:
    if saved is None:
      return None
    num_saved, *_ = next(iter(saved.leaves.values())).shape or (0,)
    require(num_saved >= num_rows, f"checkpoint {folder}: rows", num_saved, f"{num_rows} at least")
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((num_saved, *leaf.shape), leaf.dtype), abstract_row)
    state = _restore(saved, abstract(rows))
  return seeds.join_rows([(state, slice(num_rows))], mesh), saved.step.step


def saved_shapes(folder: str | os.PathLike[str]) -> dict[str, tuple[int, ...]] | None:
  """Field -> shape of the arrays in the latest step saved in `folder`, keys as their data; None where there is none.

  The axis of seeds is as long as the devices that saved it made it: whoever loads on others must ask.

  Raises:
    ValueError: one line that names the folder, where it is damaged.
  """
  with _latest(folder) as saved:
    return None if saved is None else {name: leaf.shape for name, leaf in saved.leaves.items()}


def latest_step(folder: str | os.PathLike[str]) -> int | None:
  """The latest step saved in `folder`; None where there is none."""
  folder = Path(folder).absolute()
  if not folder.is_dir():  # Orbax would make it
    return None
  with _checkpointer(folder) as checkpointer:
    return None if checkpointer.latest is None else checkpointer.latest.step


def load_config(folder: str | os.PathLike[str]) -> Any:
  """The config saved in `folder`.

  Raises:
    FileNotFoundError: none was saved.
    ValueError: the file is not JSON.
  """
  return files.read_json(Path(folder) / _CONFIG)


class _Saved(NamedTuple):
  """The latest step in a folder: Orbax's checkpointer and name of it, where it lies, and what arrays it has."""

  checkpointer: Any
  step: Any
  path: Path
  leaves: dict[str, _Leaf]


@contextlib.contextmanager
def _latest(folder: str | os.PathLike[str]) -> Iterator[_Saved | None]:
  """The latest step saved in `folder`, its metadata read once; None where there is none."""
  folder = Path(folder).absolute()
  if not folder.is_dir():  # Orbax would make it
    yield None
    return
  with _checkpointer(folder) as checkpointer:
    step = checkpointer.latest
    if step is None:
      yield None
      return
    path = folder / str(step.step)
    with _named(path):
      leaves = _stored_leaves(checkpointer.metadata(step).metadata)
    if not leaves:
      raise ValueError(f"checkpoint {path}: cannot be read: no arrays are named there")
    yield _Saved(checkpointer, step, path, leaves)


def _restore(saved: _Saved, abstract_state: State) -> State:
  """The arrays of a step on the shardings of `abstract_state`, if they are those expected."""
  _check_same(saved.path, saved.leaves, _stored_leaves(abstract_state))
  with _named(saved.path):
    state = saved.checkpointer.load(saved.step, abstract_state)
  # Orbax makes keys of the kind that was saved, whatever kind was asked for.
  _check_same(saved.path, _leaves(state), _leaves(abstract_state))
  # Keys may come on the sharding of their data, which has an axis too many; nothing else moves.
  return jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, abstract_state))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
  """Turns what Orbax raises over damaged files, errors of many kinds and lengths, into one line that names `path`."""
  try:
    yield
  except Exception as error:
    raise ValueError(f"checkpoint {path}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _check_storable(state: Any) -> None:
  for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    require(isinstance(leaf, jax.Array | np.ndarray), f"state.{name}", leaf, "an array")
    if isinstance(leaf, np.ndarray):  # jax arrays are as wide as jax allows already
      allowed = jax.dtypes.canonicalize_dtype(leaf.dtype)
      require(leaf.dtype == allowed, f"state.{name}.dtype", str(leaf.dtype), f"{allowed}, or jax_enable_x64 be set")


class _Leaf(NamedTuple):
  """Type and shape of an array; prints as in float32[8, 64]."""

  dtype: str
  shape: tuple[int, ...]

  def __str__(self) -> str:
    return f"{self.dtype}{list(self.shape)}"


def _leaves(tree: Any) -> dict[str, _Leaf]:
  """Field -> leaf. The names do not tell a NamedTuple from a dict or a list: Orbax stores no NamedTuples."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="."): _Leaf(str(leaf.dtype), tuple(leaf.shape))
    for path, leaf in leaves
  }


def _stored_leaves(tree: Any) -> dict[str, _Leaf]:
  """Field -> leaf as it lies on disk: keys are their data."""

  def stored(leaf: Any) -> Any:
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return leaf
    return jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))

  return _leaves(jax.tree.map(stored, tree))


def _check_same(folder: Path, found: dict[str, _Leaf], expected: dict[str, _Leaf]) -> None:
  """Orbax casts other types silently, and answers another shape with pages of TensorStore specification."""
  differing = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
  if differing:
    name = differing[0]
    was, should_be = found.get(name, "not there"), expected.get(name, "no such field")
    more = f" ({len(differing) - 1} more fields differ)" if len(differing) > 1 else ""
    raise ValueError(f"checkpoint {folder}: {name} is {was}, expected {should_be}{more}")
