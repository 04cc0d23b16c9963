"""Where a result comes from: versions, device and commit, saved as JSON beside it."""

from __future__ import annotations

import functools
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def provenance() -> dict[str, Any]:
  """Versions of Python and of the libraries, platform, device kind and number (over all processes), git commit.

  The commit ends in `-dirty` where tracked files differ from it. It is None outside a git checkout, and the version of
  a library that is not installed is None: a missing piece of information never ends a run. Starts jax's backend.
  """
  return {
    "python": platform.python_version(),
    **{package: _version(package) for package in _PACKAGES},
    "platform": platform.platform(),
    "device_kind": jax.devices()[0].device_kind,
    "device_count": jax.device_count(),
    "git_commit": git_commit(),
  }


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


@functools.cache  # of the code that this process has read
def git_commit() -> str | None:
  """The commit of the checkout that tracks this file, not of a repository that merely has the installation in it.

  It ends in `-dirty` where tracked files differ from it; None outside of a git checkout.
  """
  file = pathlib.Path(__file__).resolve()
  if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
    return None
  return _git(file.parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
  """What git prints; None where it fails or is not there."""
  try:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
  except (OSError, subprocess.SubprocessError):
    return None
  return done.stdout.strip()
