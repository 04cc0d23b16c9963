"""Compiled programs kept between runs: jax's persistent compilation cache, safe against kills and neighbours.

jax writes an entry in place, and never replaces one. A process killed in mid-write would leave half an entry that every
later run complains about and none can use. So a process writes into a folder of its own, which begins as hard links to
all published entries; `publish` links its new entries beside them, which happens at once or not at all. The folder of
a process that was killed is removed by the next one; its lock tells that it is gone.

    <user's cache>/loopjax/<machine and versions>/entries/        complete entries, shared
                                                 /running-*/      one a process
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import zlib
from pathlib import Path

import jax
import jaxlib

MAX_BYTES = 4 * 2**30
_ENTRY = "*-cache"  # jax's names of entries
_SHARED, _RUNNING = "entries", "running-"


def enable(folder: Path | None = None) -> None:
  """Keeps what this process compiles, and uses what earlier ones did; call before the first compilation.

  Does nothing where the user chose a cache (JAX_COMPILATION_CACHE_DIR), or on a disk that does not let us write.

  Args:
    folder: where programs are kept; by default `loopjax` in the user's cache folder (XDG_CACHE_HOME, ~/.cache).
  """
  if jax.config.values["jax_compilation_cache_dir"]:
    return
  with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home. Programs are then compiled as ever
    shared = (folder or _users_cache()) / _machine() / _SHARED
    shared.mkdir(parents=True, exist_ok=True)
    with open(shared.parent / "lock", "w") as starting:
      fcntl.flock(starting, fcntl.LOCK_EX)  # one process starts at a time: nobody removes a folder not yet locked
      _remove_abandoned(shared.parent)
      _prune(shared)
      own = _begin_folder(shared)
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # they are written in place too
    atexit.register(_finish, own)


def publish() -> None:
  """Gives the programs compiled so far to later processes. Not while another thread compiles."""
  own = Path(jax.config.values["jax_compilation_cache_dir"] or "")
  if own.name.startswith(_RUNNING):
    _publish(own)


def _publish(own: Path) -> None:
  shared = own.parent / _SHARED
  for entry in own.glob(_ENTRY):
    with contextlib.suppress(OSError):  # a neighbour was first, or the disk is full: the next run compiles it again
      if not (shared / entry.name).exists() and _is_whole(entry):
        os.link(entry, shared / entry.name)


def _is_whole(entry: Path) -> bool:
  """Whether an entry can be unpacked: a full disk or Ctrl-C in mid-write leaves part of one without killing us."""
  data = entry.read_bytes()
  try:
    if data.startswith(b"\x28\xb5\x2f\xfd"):  # jax packs by Zstandard where that is installed, else by zlib
      import zstandard

      zstandard.ZstdDecompressor().decompress(data)
    else:
      zlib.decompress(data)
  except Exception:  # each packer has errors of its own
    return False
  return True


def _finish(own: Path) -> None:
  _publish(own)
  shutil.rmtree(own, ignore_errors=True)


def _users_cache() -> Path:
  return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loopjax"


def _machine() -> str:
  """A name for all that makes compiled programs exchangeable: versions, and the instructions that the CPU has."""
  features = platform.processor()
  with contextlib.suppress(OSError):
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    features += "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
  digest = hashlib.sha256(features.encode()).hexdigest()[:12]
  return f"jax-{jax.__version__}-{jaxlib.__version__}-{platform.machine()}-{digest}"


def _begin_folder(shared: Path) -> Path:
  """A locked folder for this process, with all that has been published."""
  own = Path(tempfile.mkdtemp(prefix=_RUNNING, dir=shared.parent))
  lock = os.open(own / "lock", os.O_CREAT | os.O_RDWR)  # left open: the lock lasts as long as the process
  fcntl.flock(lock, fcntl.LOCK_EX)
  for entry in shared.glob(_ENTRY):
    os.link(entry, own / entry.name)
  return own


def _remove_abandoned(folder: Path) -> None:
  """Removes the folders of processes that ended without doing so: nobody holds their locks."""
  for lock_file in folder.glob(f"{_RUNNING}*/lock"):
    with contextlib.suppress(OSError), open(lock_file) as lock:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its process lives
      shutil.rmtree(lock_file.parent, ignore_errors=True)


def _prune(shared: Path) -> None:
  """Removes the oldest entries beyond `MAX_BYTES` in all."""
  stats = sorted(((entry.stat(), entry) for entry in shared.glob(_ENTRY)), key=lambda pair: -pair[0].st_mtime)
  total = 0
  for stat, entry in stats:
    total += stat.st_size
    if total > MAX_BYTES:
      entry.unlink(missing_ok=True)
