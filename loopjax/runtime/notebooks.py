"""What a notebook needs beside the library: a start that says what it runs on, a folder that outlives the machine."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import jax

from loopjax.runtime import compilation_cache, devices

_DRIVE = Path("/content/drive")  # where Colab's own notebooks mount Google Drive

_SMALL = "LOOPJAX_SMALL is set: the cells run at their small size."
_NO_ACCELERATOR = (
  "NO ACCELERATOR: jax runs on the CPU, with a device per core. The sizes set below are meant for a GPU or TPU and may "
  "take an hour or more here. In Colab choose one by Runtime > Change runtime type; elsewhere README.md says what to "
  "install."
)


def begin() -> None:
  """Makes a device of every core, keeps compiled programs, and prints the devices and the size at which cells run.

  At full size it warns where the devices are the CPU's. Call before the first use of jax; once more does no harm.
  """
  devices.use_all_cores()
  compilation_cache.enable()
  found = jax.devices()
  print(f"Python {platform.python_version()}, jax {jax.__version__}, {len(found)} x {found[0].device_kind}")
  if "LOOPJAX_SMALL" in os.environ:
    print(_SMALL)
  elif found[0].platform == "cpu":
    print(_NO_ACCELERATOR)


def lasting_folder(name: str) -> Path:
  """`results/<name>` beside the notebook; in Colab `loopjax/<name>` on the user's Google Drive, mounted on the way."""
  if "google.colab" not in sys.modules:  # Colab's kernels load it before the first cell
    return Path("results") / name
  from google.colab import drive

  drive.mount(str(_DRIVE))
  return _DRIVE / "MyDrive" / "loopjax" / name
