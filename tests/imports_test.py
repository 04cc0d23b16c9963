"""The rules of the layout: data flow downwards, and what knows nothing of the toy does not import it."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

from absl.testing import absltest

PACKAGE = pathlib.Path(__file__).parents[1] / "loopjax"
EXPERIMENTS = PACKAGE.parent / "experiments"
ORDER = (
  "runtime", "statistics", "ratios", "leaderboard", "results", "claim_measures", "claims", "loops", "models",
  "generation", "training", "star_graph", "remedies", "analysis", "sweep", "plotting", "traces", "report",
)  # a part imports itself and those before it  # fmt: skip
# A toy student's rows are the toy's: its architecture reads how they are written.
MAY_LOOK_DOWN = {
  (f"models.{name}", "star_graph") for name in ("transformer", "decoding", "graph_network", "graph_transformer")
}
WITHOUT_JAX = ("loops", "traces")


def module_name(path: pathlib.Path) -> str:
  return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imported(path: pathlib.Path) -> set[str]:
  """The modules of the package that a file imports, anywhere in it, as `part.module`."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "loopjax":
      inside = node.module.removeprefix("loopjax").lstrip(".")
      found |= {inside} if inside else {alias.name for alias in node.names}
    elif isinstance(node, ast.Import):
      found |= {a.name.removeprefix("loopjax.") for a in node.names if a.name.startswith("loopjax.")}
  return found


class ImportsTest(absltest.TestCase):
  def test_every_part_imports_itself_and_those_before_it(self):
    modules = {module_name(path): imported(path) for path in PACKAGE.rglob("*.py")}
    self.assertGreater(len(modules), 80)
    for module, others in modules.items():
      part = module.split(".")[0]
      for other in {name.split(".")[0] for name in others}:
        allowed = part == "__init__" or other in ORDER[: ORDER.index(part) + 1] or (module, other) in MAY_LOOK_DOWN
        self.assertTrue(allowed, f"{module} imports {other}, which comes after {part} or is not in ORDER")

  def test_what_reads_text_and_traces_starts_without_jax(self):
    parts = [part for part in WITHOUT_JAX if (PACKAGE / part).exists()]
    names = [f"loopjax.{module_name(path)}" for part in parts for path in (PACKAGE / part).rglob("*.py")]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nassert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    self.assertEqual(done.returncode, 0, done.stderr)

  def test_files_and_functions_stay_short(self):
    for path in (*PACKAGE.rglob("*.py"), *EXPERIMENTS.rglob("*.py")):
      self.assertLessEqual(len(path.read_text().splitlines()), 300, path)
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
          first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
          self.assertLessEqual(node.end_lineno - first.lineno + 1, 50, f"{path}: {node.name}, its text aside")


if __name__ == "__main__":
  absltest.main()
