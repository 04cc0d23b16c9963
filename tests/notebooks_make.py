"""Runs the notebooks of `colab/` at the small size, and stores in them what they show.

  pip install -e ".[colab]"
  python -m tests.notebooks_make [NAME ...]

Each runs in an empty folder, with this checkout, and takes about a minute on a CPU core. Stored are results and what is
printed. Progress and warnings are not, and figures have few colours, so that a notebook is small. A digest tells which
code made the outputs. `tests/notebooks_test.py` says what a stored notebook must be like.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COLAB = ROOT / "colab"
SECONDS = 1200  # for one cell


def execute(path: Path) -> dict[str, Any]:
  """The notebook, with the outputs of all its cells."""
  import nbclient
  import nbformat

  notebook = nbformat.read(path, as_version=4)
  about = notebook["metadata"].copy()
  with tempfile.TemporaryDirectory() as folder:
    where = {"metadata": {"path": folder}}
    client = nbclient.NotebookClient(
      notebook, timeout=SECONDS, kernel_name="python3", resources=where, record_timing=False
    )
    client.execute()
  notebook["metadata"] = about  # without the version of the Python that ran it
  found = json.loads(nbformat.writes(notebook))
  found["metadata"]["loopjax"] = {"outputs_of": digest(found)}
  return found


def digest(notebook: dict[str, Any]) -> str:
  """Of the code, whatever its outputs."""
  code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
  return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]


def tidy(notebook: dict[str, Any]) -> dict[str, Any]:
  """The notebook with outputs as they are stored."""
  for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
      kept = [output for output in cell["outputs"] if output.get("name") != "stderr"]
      cell["outputs"] = [_small(output) for output in kept]
  return notebook


def _small(output: dict[str, Any]) -> dict[str, Any]:
  picture = output.get("data", {}).get("image/png")
  if picture is not None:
    stored = with_few_colours(base64.b64decode("".join(picture)))
    output["data"]["image/png"] = base64.b64encode(stored).decode()
  return output


def with_few_colours(png: bytes) -> bytes:
  """A third of the bytes. No pixel changes so much that lines of two colours could look alike."""
  picture, stored = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
  few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
  few.save(stored, "png", optimize=True)
  return stored.getvalue()


def write(notebook: dict[str, Any], path: Path) -> None:
  path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
  os.environ["LOOPJAX_SMALL"] = "1"
  os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
  for name in sys.argv[1:] or sorted(path.stem for path in COLAB.glob("*.ipynb")):
    path = COLAB / f"{name}.ipynb"
    write(tidy(execute(path)), path)
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
  main()
