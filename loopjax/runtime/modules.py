"""A folder with one thing a file, each of which enters itself in a registry: whoever needs them all reads all files."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable


def import_all(package: str, path: Iterable[str]) -> tuple[str, ...]:
  """Imports every module that stands in a package, given its `__name__` and `__path__`; returns their names, sorted."""
  names = tuple(sorted(module.name for module in pkgutil.iter_modules(path)))
  for name in names:
    importlib.import_module(f"{package}.{name}")
  return names
