"""The file that responses are appended to, a line each, and the settings beside it: a run that was stopped goes on.

A line is written at once and ends in a line break. A process that is killed leaves at most one half line, the last one,
which is cut off when the file is opened again. The system's lock on the file keeps a second writer out.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from loopjax.runtime import config, files

SUFFIX = ".settings"  # no ending that a scan of the folder takes for a file of traces


class Key(NamedTuple):
  """Names a response in its file."""

  problem: str
  temperature: float
  sample: int


class Journal:
  """Opens a file, and finds out what it has.

  Attributes:
    path: the file.
    keys: of the responses that it has.

  Args:
    path: the file; it and its folder are made as needed.
    identity: what the responses are made with, JSON. Another one's file is refused.
    details: what is kept beside the identity and may differ from run to run, JSON.

  Raises:
    ValueError: one line: another process writes the file, it is of another identity, or it has a line of another kind.
  """

  def __init__(self, path: str | os.PathLike[str], identity: dict[str, Any], details: dict[str, Any]):
    self.path = Path(path)
    if self.path.is_dir():
      raise ValueError(f"{path}: is a folder; --output must be a file")
    self.path.parent.mkdir(parents=True, exist_ok=True)
    self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
      self._lock()
      self._settle(identity, details)
      self.keys = self._read()
    except BaseException:
      self.close()
      raise

  def _lock(self) -> None:
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(f"{self.path}: another process writes there; wait for its end, or choose another") from None

  def _settle(self, identity: dict[str, Any], details: dict[str, Any]) -> None:
    """Writes the settings of a new file; compares those of an old one."""
    beside = self.path.with_name(self.path.name + SUFFIX)
    if os.fstat(self._file).st_size:
      if not beside.exists():
        raise ValueError(f"{self.path}: is there, and has no {beside.name} beside it; choose another --output")
      self._compare(files.read_json(beside).get("identity", {}), identity)
    else:
      files.write_json({"identity": identity, **details}, beside)

  def _compare(self, stored: dict[str, Any], asked: dict[str, Any]) -> None:
    old, new = config.leaves(stored, ""), config.leaves(asked, "")
    for name in {**new, **old}:
      was, shall = (f"{name}={leaves[name]!r}" if name in leaves else f"no {name}" for leaves in (old, new))
      if was != shall:
        told = f"{was}, not {shall.removeprefix(f'{name}=')}"
        raise ValueError(f"{self.path}: was made with {told}; choose another --output")

  def _read(self) -> set[Key]:
    """The keys of whole lines; a half line at the end is cut off."""
    keys, end = set[Key](), 0
    with open(self.path, "rb") as file:
      for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
          os.ftruncate(self._file, end)
          break
        end += len(line)
        keys.add(self._key(line, number))
    return keys

  def _key(self, line: bytes, number: int) -> Key:
    try:
      record = json.loads(line)
      return Key(record["problem_id"], record["temperature"], record["sample"])
    except (ValueError, KeyError, TypeError):
      raise ValueError(f"{self.path}:{number}: is no line that this command writes; choose another --output") from None

  def append(self, record: dict[str, Any]) -> None:
    """Appends a response, which the file must not have yet.

    Raises:
      OSError: the system refuses; the file may then end in a half line.
    """
    key = Key(record["problem_id"], record["temperature"], record["sample"])
    assert key not in self.keys, key
    content = memoryview(json.dumps(record).encode("ascii") + b"\n")
    while content:
      content = content[os.write(self._file, content) :]
    self.keys.add(key)

  def close(self) -> None:
    """Lets go of the file."""
    os.close(self._file)
