"""Configs: round trip through JSON, changes by name, flags as a user meets them (in a process of their own)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import typing

import hypothesis
import jax
import numpy as np
from absl.testing import absltest, parameterized
from hypothesis import strategies as st

from experiments import registry
from loopjax.models.transformer import Transformer
from loopjax.runtime import command_line, config, provenance
from loopjax.star_graph.graph import StarGraph
from loopjax.training.step import Training

CONFIGS = {"task": StarGraph, "model": Transformer, "training": Training}  # and what errors call them
ROOT = pathlib.Path(__file__).resolve().parents[2]

SCRIPT = '''
import dataclasses, json

from loopjax.runtime import command_line, config


@dataclasses.dataclass(frozen=True)
class Task:  # in place of StarGraph, which takes seconds to import: it imports jax
  num_chains: int = 5
  chain_length: int = 3
  reset_prob: float = 0.3
  encoding: str = "edge"
  goal_hidden: bool = False

  def __post_init__(self):
    config.check_fields(self, "task")
    config.require(self.num_chains >= 1, "task.num_chains", self.num_chains, "at least 1")


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Settings.

  Attributes:
    task: what is walked.
    temperatures: of the rollouts: each has
      rollouts of its own.
    kinds: of loops, `root` or `child`.
  """

  task: Task = Task()
  temperatures: tuple[float, ...] = (0.0, 1.0)
  kinds: tuple[str, ...] = ("root",)
  fixed: tuple[bool, ...] = (False,)
  learning_rate: float = 1

  def __post_init__(self):
    config.check_fields(self)


CONFIG = command_line.flags(Experiment())


def main():
  print(json.dumps(config.to_json(CONFIG())))
  if CONFIG().learning_rate == 7:
    raise KeyError("a defect")
  if CONFIG().learning_rate == 8:
    open("/no/such/file")


if __name__ == "__main__":
  command_line.run_main(main)
'''


@dataclasses.dataclass(frozen=True)
class Experiment:
  task: StarGraph = StarGraph()
  temperatures: tuple[float, ...] = (0.0, 1.0)
  names: tuple[str, ...] = ()
  learning_rate: float = 1e-3
  repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Checked:
  task: StarGraph = StarGraph()
  temperatures: tuple[float, ...] = (0.0, 1.0)
  names: tuple[str, ...] = ()

  def __post_init__(self):
    config.check_fields(self)


@dataclasses.dataclass(frozen=True)
class NoDefault:
  size: int


@st.composite
def star_graphs(draw: st.DrawFn) -> StarGraph:
  n, l = draw(st.integers(1, 9)), draw(st.integers(1, 9))
  margin = draw(st.floats(0, 1 - 1 / n))
  margins = draw(st.sampled_from([(margin, 0.0), (0.0, margin)]))
  return StarGraph(
    num_chains=n,
    chain_length=l,
    spare_labels=draw(st.integers(0, 50)),
    max_steps=l + 2 + draw(st.integers(0, 200)),
    reset_prob=draw(st.floats(0, 1, exclude_max=True)),
    explore_prob=draw(st.floats(0, 1)),
    visited_margin=margins[0],
    goal_margin=margins[1],
    encoding=draw(st.sampled_from(["edge", "flat"])),
    goal_hidden=draw(st.booleans()),
  )


@dataclasses.dataclass(frozen=True)
class Grown:
  """A config to which a field was added.

  Attributes:
    size: from the beginning.
    spare: added later.
  """

  size: int = 1
  spare: int = config.untold(0)


class UntoldTest(absltest.TestCase):
  def test_configs_without_the_field_keep_their_text(self):
    self.assertEqual(config.to_json(Grown(2)), {"size": 2})
    self.assertEqual(config.to_json(Grown(2, spare=3)), {"size": 2, "spare": 3})
    for one in (Grown(2), Grown(2, spare=3)):
      self.assertEqual(config.from_json(Grown, config.to_json(one)), one)
    self.assertEqual(config.replace(Grown(2, spare=3), {"size": 4}), Grown(4, spare=3))

  def test_no_flag_sets_it(self):
    self.assertEqual([path for path, _, _ in command_line.described_leaves(Grown, "")], ["size"])


class JsonTest(parameterized.TestCase):
  @hypothesis.given(task=star_graphs(), temperatures=st.lists(st.floats(0, 5)), names=st.lists(st.text()))
  def test_round_trip(self, task, temperatures, names):
    experiment = Experiment(task=task, temperatures=tuple(temperatures), names=tuple(names))
    data = json.loads(json.dumps(config.to_json(experiment)))
    self.assertEqual(config.from_json(Experiment, data), experiment)

  def test_missing_fields_keep_their_defaults_and_ints_become_floats(self):
    experiment = config.from_json(Experiment, {"learning_rate": 1, "temperatures": [0, 1]})
    self.assertEqual(experiment, Experiment(learning_rate=1.0, temperatures=(0.0, 1.0)))
    self.assertIsInstance(experiment.learning_rate, float)
    self.assertIsInstance(experiment.temperatures[0], float)

  def test_numpy_scalars_become_plain(self):
    experiment = config.from_json(Experiment, {"repeats": np.int64(3), "learning_rate": np.float32(0.5)})
    self.assertIs(type(experiment.repeats), int)
    self.assertIs(type(experiment.learning_rate), float)

  @parameterized.parameters(
    ({"task": {"num_chain": 3}}, r"^task\.num_chain=3 .* task\.num_chains, task\.chain_length"),
    ({"tusk": 3}, r"^tusk=3 .* one of the fields task, temperatures, names, learning_rate, repeats$"),
    ({"task": {"num_chains": "3"}}, r"^task\.num_chains='3' is not allowed: must be an int$"),
    ({"task": {"num_chains": 3.0}}, r"^task\.num_chains=3\.0 .* an int$"),
    ({"task": {"num_chains": True}}, r"^task\.num_chains=True .* an int$"),
    ({"task": {"goal_hidden": 1}}, r"^task\.goal_hidden=1 .* true or false$"),
    ({"task": {"encoding": None}}, r"^task\.encoding=None .* a string$"),
    ({"task": {"num_chains": 0}}, r"^task\.num_chains=0 .* at least 1$"),
    ({"task": 3}, r"^task=3 .* a mapping of the fields of StarGraph$"),
    ({"learning_rate": "high"}, r"^learning_rate='high' .* a float$"),
    ({"temperatures": 1.0}, r"^temperatures=1\.0 .* a list$"),
    ({"temperatures": [0.0, "x"]}, r"^temperatures\[1\]='x' .* a float$"),
    ([1], r"^config=\[1\] .* a mapping"),
  )
  def test_errors_are_one_line_with_field_value_and_allowed(self, data, message):
    with self.assertRaisesRegex(ValueError, message) as caught:
      config.from_json(Experiment, data)
    self.assertNotIn("\n", str(caught.exception))

  def test_field_without_default_must_be_given(self):
    with self.assertRaisesRegex(ValueError, r"^model\.size=None .* given"):
      config.from_json(NoDefault, {}, "model")


class ReplaceTest(parameterized.TestCase):
  def test_changes_are_validated_together(self):
    default = Experiment()
    changed = config.replace(default, {"task.num_chains": 20, "task.spare_labels": 6, "temperatures": (0.5,)})
    self.assertEqual(changed, Experiment(task=StarGraph(num_chains=20, spare_labels=6), temperatures=(0.5,)))
    self.assertEqual(default, Experiment())

  def test_subconfig_as_a_whole(self):
    self.assertEqual(config.replace(Experiment(), {"task": StarGraph(num_chains=2)}).task.num_chains, 2)

  @parameterized.parameters(
    ({"task.chains": 3}, r"^task\.chains=3 .* one of the fields task\.num_chains, task\.chain_length, "),
    ({"chains": 3}, r"^chains=3 .* one of the fields task, temperatures"),
    ({"repeats.n": 3}, r"^repeats\.n=3 .* one of the fields task, temperatures"),
    ({"task.spare_labels": -1}, r"^task\.spare_labels=-1 .* at least 0$"),
    ({"task.num_chains": "3"}, r"^task\.num_chains='3' .* an int$"),
  )
  def test_errors(self, changes, message):
    with self.assertRaisesRegex(ValueError, message):
      config.replace(Experiment(), changes)


class FlagsTest(parameterized.TestCase):
  def run_script(self, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)

  def test_overrides(self):
    done = self.run_script(
      "--config.task.num_chains=3",
      "--config.task.reset_prob=0",
      "--config.task.encoding",
      "flat",
      "--config.task.goal_hidden",
      "--config.temperatures=0,0.5",
      "--config.learning_rate=0.25",
    )
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    task = {"num_chains": 3, "chain_length": 3, "reset_prob": 0.0, "encoding": "flat", "goal_hidden": True}
    expected = {"temperatures": [0.0, 0.5], "kinds": ["root"], "fixed": [False], "learning_rate": 0.25}
    self.assertEqual(json.loads(done.stdout), {"task": task} | expected)

  def test_lists_split_at_commas_and_the_last_of_a_repeated_flag_counts(self):
    done = self.run_script(
      "--config.temperatures=0.5", "--config.temperatures=1,2", "--config.kinds=root, child", "--config.kinds=",
      "--config.fixed=true,false", "--config.learning_rate=1", "--config.learning_rate=2",
    )  # fmt: skip
    self.assertEqual((done.returncode, done.stderr), (0, ""))
    found = json.loads(done.stdout)
    del found["task"]
    self.assertEqual(found, {"temperatures": [1, 2], "kinds": [], "fixed": [True, False], "learning_rate": 2})
    self.assertIs(found["fixed"][0], True)
    self.assertEqual(json.loads(self.run_script("--config.kinds=root,child").stdout)["kinds"], ["root", "child"])

  @parameterized.parameters(
    ("--config.task.num_chains=abc", r"config\.task\.num_chains=abc: .*int"),
    ("--config.task.num_chains=2.5", r"config\.task\.num_chains=2\.5: .*int"),
    ("--config.task.num_chains=0", r"task\.num_chains=0 is not allowed: must be at least 1"),
    ("--config.task.goal_hidden=maybe", r"config\.task\.goal_hidden=maybe: .*boolean"),
    ("--config.temperatures=hot", r"temperatures\[0\]='hot' is not allowed: must be a float"),
    ("--config.task.chains=3", r"config\.task\.chains='3' .* one of the fields .*config\.task\.num_chains"),
    ("--config.tusk.num_chains=3", r"config\.tusk\.num_chains='3' .* one of the fields .*config\.task, "),
    ("--config.task=3", r"config\.task='3' .* one of the fields config\.task\.num_chains, "),
    ("--config=3", r"config='3' .* one of the fields config\.task, config\.temperatures"),
    ("--config.task.reset_prob=nan", r"task\.reset_prob=nan is not allowed: must be finite"),
    ("--config.learning_rate=inf", r"learning_rate=inf is not allowed: must be finite"),
    ("--config.temperatures=0,1e39", r"temperatures\[1\]=1e\+39 is not allowed: must be finite"),
    ("--config.task.num_chains=2147483648", r"task\.num_chains=2147483648 is not allowed: must be an int32"),
    ("--config.temperatures=0.1,0.1000000001", r"temperatures=\(0\.1, 0\.1000000001\) .* 0\.1 comes more than once"),
    ("--config.kinds=root,root", r"kinds=\('root', 'root'\) .* root comes more than once"),
    ("--config.fixed=true,maybe", r"fixed\[1\]='maybe' is not allowed: must be true or false"),
    ("--cofnig.task.num_chains=3", r"Unknown .* 'cofnig\.task\.num_chains'"),
    ("num_chains=3", r"arguments=\['num_chains=3'\] is not allowed: must be flags, such as --"),
  )
  def test_mistakes_end_with_one_line(self, argument, message):
    done = self.run_script("--config.task.chain_length=2", argument)
    self.assertEqual(done.returncode, 2)
    self.assertEqual(done.stdout, "")
    self.assertRegex(done.stderr, rf"\Aerror: .*{message}.*\n\Z")

  def test_other_exceptions_keep_their_traceback(self):
    done = self.run_script("--config.learning_rate=7")
    self.assertEqual(done.returncode, 1)
    self.assertIn("Traceback", done.stderr)
    self.assertIn("a defect", done.stderr)

  def test_what_the_file_system_refuses_is_one_line(self):
    done = self.run_script("--config.learning_rate=8")
    self.assertEqual(done.returncode, 2)
    self.assertRegex(done.stderr, r"\Aerror: .*No such file or directory: '/no/such/file'\n\Z")

  def test_help_has_every_field_with_its_text_and_default(self):
    said = self.run_script("--help").stdout
    self.assertRegex(said, r"--config\.task\.num_chains:.*\n +\(default: '5'\)\n +\(an integer\)")
    text = r"of the rollouts: each has rollouts of its\s+own\.\n +\(default: '0\.0,1\.0'\)"
    self.assertRegex(said, r"--config\.temperatures: " + text)
    self.assertRegex(said, r"--config\.kinds: of loops, `root` or `child`\.\n +\(default: 'root'\)")
    self.assertIn("--[no]config.task.goal_hidden", said)
    self.assertIn("--config.fixed", said)


class CheckFieldsTest(parameterized.TestCase):
  @parameterized.parameters(*CONFIGS.items())
  def test_every_number_is_one_to_compute_with(self, name, cls):
    bad = {float: (math.nan, math.inf, -math.inf, 1e39, 10**400), int: (2**31, -(2**31) - 1, math.nan)}
    checked = 0
    for field, kind in typing.get_type_hints(cls).items():
      for value in bad.get(kind, ()):
        with self.assertRaisesRegex(ValueError, rf"^{name}\.{field}={re.escape(repr(value))} is not allowed: must be "):
          cls(**{field: value})
        checked += 1
    self.assertGreater(checked, 0)

  @parameterized.parameters(*CONFIGS.values())
  def test_every_field_has_a_text(self, cls):
    self.assertCountEqual(command_line._field_texts(cls), [field.name for field in dataclasses.fields(cls)])

  @parameterized.parameters(
    ({"names": ("a", "b", "a")}, r"^names=\('a', 'b', 'a'\) .* a comes more than once$"),
    ({"temperatures": (0.1, 0.1 + 1e-9)}, r"^temperatures=\(0\.1, 0\.100000001\) .* 0\.1 comes more than once$"),
    ({"temperatures": (0, 0.0)}, r"^temperatures=.* 0 comes more than once$"),
    ({"temperatures": (0.0, math.nan)}, r"^temperatures\[1\]=nan .* finite"),
    ({"temperatures": "01"}, r"^temperatures='01' .* a list$"),
    ({"task": 3}, r"^task=3 .* a mapping of the fields of StarGraph$"),
  )
  def test_lists_hold_what_differs(self, fields, message):
    with self.assertRaisesRegex(ValueError, message):
      Checked(**fields)
    Checked(names=("a", "b"), temperatures=(0, 0.1))

  @parameterized.parameters((), (-0.1,), (math.nan,), (math.inf,), (1e39,), (1e-39,), (0.5, 0.5), (0.5, 0.5000001))
  def test_temperatures(self, *values):
    with self.assertRaisesRegex(ValueError, r"^temperatures=\("):
      config.require_temperatures(values)
    config.require_temperatures((0.0, config.COLDEST, 0.5, 0.500001, config.LARGEST))


# Runs every binary of `experiments` with --help, each in a fork of a process that has imported what they import.
HELP = """
import os, pathlib, runpy, sys

import jax

folder, modules = pathlib.Path(sys.argv[1]), sys.argv[2:]
import experiments.correlation_map, experiments.report, experiments.sweep
for module in modules:
  child = os.fork()
  if child == 0:
    with open(folder / module, "w") as file:
      os.dup2(file.fileno(), 1)
      sys.argv = [module, "--help"]
      try:
        runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
      finally:
        sys.stdout.flush()
        os._exit(0)
  os.waitpid(child, 0)
"""


class BinariesTest(absltest.TestCase):
  def test_help_shows_all_flags_of_every_binary(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    modules = [path.relative_to(ROOT / "experiments") for path in (ROOT / "experiments").rglob("*.py")]
    texts = {".".join(path.with_suffix("").parts): (ROOT / "experiments" / path).read_text() for path in modules}
    binaries = sorted(name for name, text in texts.items() if 'if __name__ == "__main__"' in text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", HELP, str(folder), *binaries]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    self.assertEqual(done.returncode, 0, done.stderr)
    some = {"benchmarks.benchmark", "benchmarks.throughput", "reproduce", "report", "risk_aversion", "sweep"}
    self.assertContainsSubset(some, binaries)
    for name in binaries:
      said = " ".join((folder / name).read_text().split())
      for flag in re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', texts[name]):
        self.assertRegex(said, rf"--(\[no\])?{flag}: ", f"{name}: {flag}")
      is_experiment = "main(EXPERIMENT)" in texts[name]
      if "binary.sinks_flag()" in texts[name] or is_experiment:
        self.assertIn("--sinks: ", said, name)
      if is_experiment:
        self.assertIn("--output_dir: ", said, name)
        self.check_config(name, said)
    self.assertLen([name for name in binaries if "main(EXPERIMENT)" in texts[name]], len(registry.EXPERIMENTS))

  def check_config(self, name: str, said: str) -> None:
    """Every field of the experiment's config stands there with its text."""
    config = registry.EXPERIMENTS[name].default
    leaves = list(command_line.described_leaves(type(config), ""))
    self.assertNotEmpty(leaves)
    for path, _, text in leaves:
      self.assertNotEmpty(text, f"{name}: {path}")
      self.assertRegex(said, rf"--(\[no\])?config\.{re.escape(path)}: {re.escape(text)} ", name)


class ProvenanceTest(absltest.TestCase):
  def test_is_json_and_names_versions_and_devices(self):
    found = json.loads(json.dumps(provenance.provenance()))
    self.assertEqual(found["jax"], jax.__version__)
    self.assertEqual(found["device_count"], 4)
    self.assertNotIn(None, [value for key, value in found.items() if key != "git_commit"])

  def test_commit_is_none_outside_a_checkout(self):
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.assertIsNone(provenance._git(folder, "rev-parse", "HEAD"))
    self.assertIsNone(provenance._git(pathlib.Path("/no/such/folder"), "rev-parse", "HEAD"))


if __name__ == "__main__":
  absltest.main()
