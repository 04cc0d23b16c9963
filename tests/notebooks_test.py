"""What notebooks begin with, and how those of `colab/` are stored; that they run is the second stage of `.ci/run`.

`python -m tests.notebooks_make` stores their outputs.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import importlib.metadata
import io
import json
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from absl.testing import absltest, parameterized
from matplotlib.figure import Figure
from PIL import Image

from loopjax import plotting
from loopjax.runtime import notebooks
from tests import notebooks_make

COLAB = Path(__file__).resolve().parent.parent / "colab"
NOTEBOOKS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in COLAB.glob("*.ipynb")}
ADDRESS = "https://example.org/loopjax.git"


def _code(name: str) -> list[str]:
  return ["".join(cell["source"]) for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "code"]


def _imported(code: str) -> set[str]:
  """What code imports of this project."""
  statements = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module]
  names = {f"{node.module}.{alias.name}" for node in statements for alias in node.names}
  return {name for name in names if name.startswith(("loopjax.", "experiments."))}


def _begin() -> str:
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    notebooks.begin()
  return printed.getvalue()


class BeginTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enterContext(mock.patch.dict("os.environ", JAX_NUM_CPU_DEVICES="4"))  # conftest's, as a user's choice

  def test_names_the_devices_and_says_that_they_are_the_cpu(self):
    printed = _begin()
    self.assertIn(f"jax {jax.__version__}, 4 x cpu\n", printed)
    self.assertIn("NO ACCELERATOR: jax runs on the CPU", printed)
    self.assertEqual(_begin(), printed)

  def test_says_that_cells_are_small_where_they_are(self):
    self.enterContext(mock.patch.dict("os.environ", LOOPJAX_SMALL="1"))
    self.assertEndsWith(_begin(), "cpu\nLOOPJAX_SMALL is set: the cells run at their small size.\n")

  def test_says_nothing_of_the_cpu_on_an_accelerator(self):
    accelerator = types.SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
    self.enterContext(mock.patch.object(jax, "devices", lambda: [accelerator]))
    printed = _begin()
    self.assertEndsWith(printed, ", 1 x TPU v5 lite\n")
    self.assertNotIn("CPU", printed)


class LastingFolderTest(absltest.TestCase):
  def test_is_beside_the_notebook_outside_of_colab(self):
    self.assertEqual(notebooks.lasting_folder("sweep"), Path("results/sweep"))

  def test_is_on_the_mounted_drive_in_colab(self):
    colab = types.ModuleType("google.colab")
    colab.drive = mock.Mock()
    self.enterContext(mock.patch.dict(sys.modules, {"google.colab": colab}))
    self.assertEqual(notebooks.lasting_folder("sweep"), Path("/content/drive/MyDrive/loopjax/sweep"))
    colab.drive.mount.assert_called_once_with("/content/drive")


class StoredTest(parameterized.TestCase):
  def test_they_are_there(self):
    self.assertContainsSubset(["quickstart", "correlated_errors", "tpu_seed_sweep"], NOTEBOOKS)

  @parameterized.parameters(*NOTEBOOKS)
  def test_with_the_outputs_of_one_run_from_top_to_bottom(self, name):
    cells = [cell for cell in NOTEBOOKS[name]["cells"] if cell["cell_type"] == "code"]
    self.assertEqual([cell["execution_count"] for cell in cells], list(range(1, len(cells) + 1)))
    for cell in cells:
      with self.subTest(cell["id"]):
        counts = {output.get("execution_count", cell["execution_count"]) for output in cell["outputs"]}
        self.assertContainsSubset(counts, {cell["execution_count"]})
        if isinstance(ast.parse("".join(cell["source"])).body[-1], ast.Expr):  # it shows something
          self.assertNotEmpty(cell["outputs"])
    self.assertEqual(NOTEBOOKS[name]["metadata"]["loopjax"], {"outputs_of": notebooks_make.digest(NOTEBOOKS[name])})

  @parameterized.parameters(*NOTEBOOKS)
  def test_outputs_are_results_and_nothing_else(self, name):
    for cell in NOTEBOOKS[name]["cells"]:
      with self.subTest(cell["id"]):
        self.assertEmpty(cell["metadata"])
        for output in cell.get("outputs", []):
          self.assertIn(output["output_type"], ("stream", "execute_result", "display_data"))
          self.assertNotEqual(output.get("name"), "stderr")
          data = {kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"}
          text = json.dumps([output.get("text"), data])
          self.assertNotRegex(text, "Warning:|Traceback|NO ACCELERATOR")
          self.assertNotRegex(text, r"(?<![\w.<:/])/(home|root|tmp|usr|work|opt|var|mnt|content|Users)/")

  @parameterized.parameters(*NOTEBOOKS)
  def test_it_says_at_which_size_they_were_made(self, name):
    first, install = NOTEBOOKS[name]["cells"][:2]
    said = " ".join("".join(first["source"]).split())
    self.assertIn("outputs stored here were made at the small size, which `LOOPJAX_SMALL=1` in the environment", said)
    self.assertIn("LOOPJAX_SMALL is set", "".join(install["outputs"][0]["text"]))

  @parameterized.parameters(*NOTEBOOKS)
  def test_small_in_bytes(self, name):
    self.assertLess((COLAB / f"{name}.ipynb").stat().st_size, 300_000)

  @parameterized.parameters("quickstart", "correlated_errors", "tpu_seed_sweep")
  def test_figures_show_something(self, name):
    outputs = [x for cell in NOTEBOOKS[name]["cells"] for x in cell.get("outputs", [])]
    pictures = [x["data"]["image/png"] for x in outputs if "image/png" in x.get("data", {})]
    self.assertLen(pictures, sum(source.count("Image(") for source in _code(name)))
    for picture in pictures:
      pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("HSV"))
      self.assertGreater(np.mean(pixels[..., 1] > 128), 0.005)  # lines have colours; axes and texts have none

  @parameterized.parameters(*NOTEBOOKS)
  def test_with_calls_that_the_pages_show(self, name):
    pages = "".join(path.read_text(encoding="utf-8") for path in (COLAB.parent / "docs").glob("*.md"))
    shown = set().union(*map(_imported, re.findall(r"^```python\n(.*?)^```$", pages, re.M | re.S)))
    for call in set().union(*map(_imported, _code(name))) - {"loopjax.runtime.notebooks", "loopjax.traces.main.main"}:
      self.assertTrue(any(f"{other}.".startswith(f"{call}.") for other in shown), call)

  @parameterized.parameters(*NOTEBOOKS)
  def test_as_colab_and_jupyter_read_them(self, name):
    notebook = NOTEBOOKS[name]
    self.assertEqual(notebook["nbformat"], 4)
    self.assertGreaterEqual(notebook["nbformat_minor"], 5)  # from which on cells have ids
    self.assertEqual(notebook["metadata"]["kernelspec"]["name"], "python3")
    self.assertLen({cell["id"] for cell in notebook["cells"]}, len(notebook["cells"]))

  @parameterized.parameters(*NOTEBOOKS)
  def test_plain_python_with_one_cell_of_settings(self, name):
    for source in _code(name):
      ast.parse(source)
    self.assertLen([source for source in _code(name) if "LOOPJAX_SMALL" in source], 1)
    self.assertIn("LOOPJAX_SMALL", _code(name)[1])

  def test_one_first_cell(self):
    self.assertLen({_code(name)[0] for name in NOTEBOOKS}, 1)


class MakeTest(absltest.TestCase):
  def test_few_colours_keep_lines_apart(self):
    figure = Figure(figsize=(6, 2))
    axes = figure.subplots()
    for place, colour in enumerate(plotting.PALETTE):
      axes.plot([0, 1], [0, place], color=colour, linewidth=0.5)
      axes.fill_between([0, 1], [0, place], alpha=0.18, color=colour)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    few = notebooks_make.with_few_colours(drawn.getvalue())
    before, after = (np.asarray(Image.open(io.BytesIO(x)).convert("RGB")).astype(int) for x in (drawn.getvalue(), few))
    self.assertLess(np.abs(before - after).max(), 25)
    self.assertLess(len(few), 0.6 * len(drawn.getvalue()))

  def test_progress_is_left_out_and_results_stay(self):
    result = {"output_type": "execute_result", "data": {"text/plain": "1"}}
    outputs = [{"output_type": "stream", "name": name, "text": "x"} for name in ("stderr", "stdout")] + [result]
    notebook = {"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": list(outputs)}]}
    self.assertEqual(notebooks_make.tidy(notebook)["cells"][1]["outputs"], outputs[1:])


class FirstCellTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.pip = self.enterContext(mock.patch.object(subprocess, "run"))
    self.begin = self.enterContext(mock.patch.object(notebooks, "begin"))
    self.enterContext(mock.patch.object(sys, "path", list(sys.path)))
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    (self.folder / "colab").mkdir()
    self.enterContext(contextlib.chdir(self.folder / "colab"))

  def run_cell(self, installed, repository=""):
    """Runs the first cell where these packages are installed; what it has pip install."""
    packages = [types.SimpleNamespace(name=name) for name in installed]
    cell = _code("quickstart")[0].replace('REPOSITORY = ""', f'REPOSITORY = "{repository}"')
    with mock.patch.object(importlib.metadata, "distributions", lambda: packages):
      exec(compile(cell, "first cell", "exec"), {})
    return [call.args[0][5:] for call in self.pip.call_args_list]  # behind `python -m pip install --quiet`

  def test_installs_nothing_where_loopjax_is_installed(self):
    self.assertEqual(self.run_cell(["jax", "loopjax", "libtpu"]), [])
    self.begin.assert_called_once_with()

  @parameterized.parameters(
    ([], "jax[]"), (["libtpu"], "jax[tpu]"), (["jax-cuda12-plugin"], "jax[cuda12]"),
    (["jax-cuda13-plugin"], "jax[cuda13]"),
  )  # fmt: skip
  def test_installs_from_the_repository_with_jaxs_build_for_the_accelerator(self, accelerator, jax_build):
    installed = self.run_cell(["jax", "jaxlib", *accelerator], ADDRESS)
    self.assertEqual(installed, [[f"loopjax @ git+{ADDRESS}", jax_build]])
    self.begin.assert_called_once_with()

  def test_a_checkout_is_installed_as_it_lies_there(self):
    (self.folder / "setup.py").touch()
    self.assertEqual(self.run_cell(["jax"], ADDRESS), [["--editable", "..", "jax[]"]])
    self.assertEqual(sys.path[-1], str(self.folder.resolve()))

  def test_asks_for_the_repository_where_it_is_not_known(self):
    with self.assertRaisesRegex(SystemExit, "Set REPOSITORY"):
      self.run_cell(["jax"])
    self.pip.assert_not_called()

  def test_asks_for_a_restart_where_another_jax_is_in_use(self):
    self.enterContext(mock.patch.object(jax, "__version__", "0.7.2"))
    with self.assertRaisesRegex(SystemExit, "Restart the session"):
      self.run_cell(["jax"], ADDRESS)
    self.begin.assert_not_called()


if __name__ == "__main__":
  absltest.main()
