"""The page of a results folder: complete, closed in itself, whole whatever the folder holds, alive in a browser."""

from __future__ import annotations

import html
import html.parser
import json
import math
import pathlib
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import jax
import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized
from matplotlib.figure import Figure

from loopjax import claim_measures, claims, plotting, report
from loopjax.analysis import walk_traces
from loopjax.models.transformer import Transformer
from loopjax.plotting import inline
from loopjax.remedies import reversed_chain, seed_conditioning
from loopjax.remedies.hinted import Hinted
from loopjax.remedies.loss_hints import LossHints
from loopjax.remedies.seed_conditioning import SeedConditioned
from loopjax.report import page, traces, verdicts, walk_groups
from loopjax.runtime import devices, files, provenance
from loopjax.star_graph import student_functions, students
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood
from loopjax.training.step import Training

MODEL, TRAINING = Transformer(num_layers=1, num_heads=2, width=16, spare_ids=2), Training(num_steps=3, rows_per_step=2)
TASKS = [StarGraph(num_chains=3, chain_length=2, max_steps=12, explore_prob=e) for e in (0.0, 0.5)]
EVIL = "</script><script>alert(1)</script>"
TEXT = "A headline about `p`.\n\n  python -m experiments.first\n"
VOID = {"meta", "link", "input", "br"}
UNPICKLED: list[str] = []
NESTED = "remedies/hinted_0"


class Bomb:
  """Does something once it is unpickled."""

  def __reduce__(self):
    return exec, ("raise ValueError('it went off')",)


def setUpModule():
  sys.addaudithook(lambda event, _: UNPICKLED.append(event) if event == "pickle.find_class" else None)


def claims_frame() -> pd.DataFrame:
  """A claim of each verdict; the first alone has a null and a prediction, and is undecided in its family."""
  seeds_of = {"holds": 0.1, "fails": 2.0, "undecided": 1.0, "not run": None, "unfit": 3.0}

  def measure_of(verdict: str) -> claim_measures.Measure:
    if seeds_of[verdict] is None:
      return lambda frame: claim_measures.value_measure("x", {"x": 1})(pd.DataFrame({"seed": [], "x": []}))
    values = [seeds_of[verdict]] * 7 + [math.nan] * (verdict == "undecided")
    return lambda frame: pd.Series(values)

  unfit = claims.Fitness(f"broken {EVIL}", lambda frame: pd.Series([0.31] * 7), 0.05)
  registered = [
    claims.Claim(
      name=f"claim_{i}", description=f"Claim {i}: {EVIL}", source="ours", condition="T = 0", presets=("quick",),
      measure=measure_of(verdict), bound=1.0, direction="below", family=f"family {EVIL}",
      null=2.5 if i == 0 else None, predicted=0.25 if i == 0 else None, fitness=(unfit,) * (verdict == "unfit"),
    )
    for i, verdict in enumerate(seeds_of)
  ]  # fmt: skip
  table = claims.evaluate(registered, pd.DataFrame(), "quick")
  table.loc[0, ["low", "holm_verdict"]] = -math.inf, "undecided"
  return table


def make_folder(folder: pathlib.Path) -> None:
  """A small results folder, by the project's own writers."""
  claims.write_csv(claims_frame(), folder / "claims.csv")
  figure = Figure()
  for axes in figure.subplots(1, 2):
    axes.plot([0, 1], [0, 1], label="student")
  plotting.save(figure, folder / "figures" / "first_loss")
  record = {"config": {"task": {"num_chains": 3}}, "provenance": provenance.provenance(), "wall_seconds": 90.0}
  files.write_json(record, folder / "results" / "first.json")
  files.write_parquet(pd.DataFrame({"seed": [0, 1, 1], "x": 1.0}), folder / "results" / "first.parquet")
  students.train_students(
    TASKS, MODEL, TRAINING, (0, 1), devices.device_mesh(), folder=folder / "checkpoints" / "first"
  )
  students.train_students(
    TASKS[1:] * 2, MODEL, TRAINING, (0, 1, 2), devices.device_mesh(), folder=folder / "checkpoints" / NESTED,
    objectives=[reversed_chain.ReversedChain(share) for share in (1.0, 0.5)],
  )  # fmt: skip


class Parser(html.parser.HTMLParser):
  """Checks that elements nest, and collects attributes and the text of every element."""

  def __init__(self):
    super().__init__()
    self.open, self.attributes, self.texts = [], [], {}

  def handle_starttag(self, tag, attrs):
    self.attributes += [(tag, *pair) for pair in attrs]
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.attributes += [(tag, *pair) for pair in attrs]

  def handle_endtag(self, tag):
    if not self.open or self.open.pop() != tag:
      raise AssertionError(f"</{tag}> at {self.getpos()} closes another element")

  def handle_data(self, data):
    self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def parsed(text: str) -> Parser:
  parser = Parser()
  parser.feed(text)
  parser.close()
  if parser.open:
    raise AssertionError(f"left open: {parser.open}")
  return parser


class ReportTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.root = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
    cls.folder = cls.root / "whole"
    make_folder(cls.folder)
    cls.problems = report.write(cls.folder, cls.folder / "report.html", {"first": TEXT})
    cls.text = (cls.folder / "report.html").read_text(encoding="utf-8")
    cls.data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', cls.text)[1])

  def test_everything_is_on_the_page(self):
    self.assertEqual(self.problems, [])
    text = ("A headline about <code>p</code>", "<code>python -m experiments.first</code>", "Figure: first loss")
    numbers = ("90 s", "0.1", "[−∞, 0.1]", "&lt; 1", "✓", "✗", "Not run: 1", ">2.5<", ">0.25<", "7 of 7<", "0 of 8<")
    for expected in (*text, *numbers, "task.num_chains", "first.parquet", jax.__version__):
      self.assertIn(expected, self.text)
    for verdict in verdicts.MARKS:
      self.assertIn(f"</span> {verdict}</span>", self.text)
    for reason in ("1 without a value", "up to 0.31, at most 0.05 is fit", "undecided among the 3 claims of family"):
      self.assertEqual(self.text.count(reason), 1, reason)

  def test_it_nests_ids_are_unique_and_references_lead_somewhere(self):
    attributes = parsed(self.text).attributes
    ids = [value for _, key, value in attributes if key == "id"]
    self.assertLen(ids, len(set(ids)))
    for _, key, value in attributes:
      if key == "aria-labelledby" or (key == "href" and value.startswith("#")):
        self.assertIn(value.removeprefix("#"), ids)

  def test_nothing_is_fetched(self):
    for tag, key, value in parsed(self.text).attributes:
      if key in ("src", "href", "action", "srcset", "poster", "data"):
        self.assertRegex(value, "^(#|data:,$)", f"{tag} {key}")
    self.assertEmpty(re.findall(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", self.text))
    self.assertIn("default-src 'none'", self.text)

  def test_figures_are_in_pieces_on_a_narrow_screen_and_never_scroll(self):
    figure = re.search("<figure>.*?</figure>", self.text, re.DOTALL)[0]
    self.assertIn('class="drawing in-pieces"', figure)
    self.assertLen(re.findall('<use href="#first_loss-piece_[0-9]"', figure), 2)
    self.assertNotRegex(figure, "scroller|min-width|tabindex")
    self.assertIn(inline.STYLE, self.text)

  def test_text_from_the_folder_is_text(self):
    scripts = parsed(self.text).texts["script"]
    self.assertNotIn(EVIL, self.text)
    self.assertNotIn("alert(1)", "".join(scripts))
    value = {"x": f"{EVIL}<!-- &amp;"}
    self.assertNotRegex(page.json_for_html(value), "[<>&]")
    self.assertEqual(json.loads(page.json_for_html(value)), value)

  def test_walks_are_of_the_students_and_sum_to_one(self):
    group = self.data["groups"][0]
    self.assertEqual(group["name"], "first")
    expected = [(f"explore_prob {e}", seed) for e in ("0", "0.5") for seed in (0, 1)]
    self.assertEqual([(s["condition"], s["seed"]) for s in group["students"]], expected)
    num_nodes = TASKS[0].num_nodes
    for walk in (walk for s in group["students"] for walks in s["walks"] for walk in walks):
      self.assertEqual(walk["nodes"][0], 0)
      self.assertLen(walk["student"], len(walk["nodes"]) - 1)
      for row in walk["student"] + walk["teacher"]:
        self.assertLess(max(row[::2]), num_nodes)
        self.assertAlmostEqual(sum(row[1::2]), 1000, delta=num_nodes / 2)
    for student in group["students"]:
      for walk in student["walks"][0]:  # greedy
        for row, taken in zip(walk["student"], walk["nodes"][1:], strict=True):
          given = dict(zip(row[::2], row[1::2], strict=True))
          self.assertGreaterEqual(given[taken], max(given.values()) - 1)  # but for rounding

  def test_students_in_subfolders_walk_too(self):
    self.assertEqual([group["name"] for group in self.data["groups"]], ["first", "remedies/hinted 0"])
    expected = [(f"share {share}", seed) for share in ("1", "0.5") for seed in (0, 1)]
    self.assertEqual([(s["condition"], s["seed"]) for s in self.data["groups"][1]["students"]], expected)
    said = "Groups of students that walk here: 2, with the first 2 students of each condition. Not on this page: 0."
    self.assertIn(said, self.text)
    self.assertEqual([group["walksAs"] for group in self.data["groups"]], ["", "Hinted"])

  def test_students_of_a_remedy_walk_as_it_asks(self):
    mesh = devices.device_mesh()
    with mock.patch.object(walk_traces, "trace_students", side_effect=ValueError("asked")) as asked:
      for name in ("first", NESTED):
        with self.assertRaisesRegex(ValueError, "asked"):
          traces.group_walks(self.folder / "checkpoints" / name, name, mesh, 2)
    self.assertEqual([call.args[0].model for call in asked.call_args_list], [MODEL, Hinted(MODEL)])

  def test_a_pattern_chooses_groups_and_shows_all_their_students(self):
    problems = report.write(self.folder, self.root / "chosen.html", {"first": TEXT}, "remedies/*")
    self.assertEqual(problems, [])
    text = (self.root / "chosen.html").read_text(encoding="utf-8")
    (group,) = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])["groups"]
    self.assertEqual([student["seed"] for student in group["students"]], [0, 1, 2, 0, 1, 2])
    self.assertIn("Groups of students that walk here: 1, with all their students. Not on this page: 1.", text)
    with self.assertRaisesRegex(ValueError, r"^students='none' .* such as \['first', 'remedies/hinted_0'\]"):
      report.write(self.folder, self.root / "none.html", {}, "none")

  def test_hostile_files_cost_a_line_each_and_nothing_else(self):
    folder = self.root / "hostile"
    shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("remedies"))
    (folder / "claims.csv").unlink()
    (folder / "results" / "first.parquet").write_bytes((folder / "results" / "first.parquet").read_bytes()[:40])
    whole = (self.folder / "results" / "first.parquet").read_bytes()
    (folder / "results" / "first_by_lag.parquet").write_bytes(whole[: len(whole) // 2])
    files.write_parquet(pd.DataFrame({"seed": [[0], [1]]}), folder / "results" / "first_history.parquet")
    (folder / "results" / "second.json").write_text('{"config": ')
    (folder / "results" / "third.json").write_text("[1]")
    (folder / "results" / "fourth.json").write_text('{"config": {}, "provenance": {}}')
    (folder / "results" / "fourth.parquet").write_bytes(pickle.dumps(Bomb()))
    (folder / "results" / "notes.txt").write_text("mine")  # foreign, and no results: passed over
    (folder / "figures" / "bad.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><g>")
    config = files.read_json(folder / "checkpoints" / "first" / "config.json")
    config["model"]["width"] = 32
    files.write_json(config, folder / "checkpoints" / "first" / "config.json")
    problems = report.write(folder, folder / "report.html", {"first": TEXT})
    text = (folder / "report.html").read_text(encoding="utf-8")
    tables = [f"{name}.parquet" for name in ("first", "first_by_lag", "first_history", "fourth")]
    named = ["claims.csv", *tables, "second.json", "third.json", "bad.svg", "checkpoints/first"]
    self.assertEmpty(UNPICKLED)
    self.assertLen(problems, len(named))
    for name in named:
      lines = [problem for problem in problems if name in problem]
      self.assertLen(lines, 1, f"{name}: {problems}")
      self.assertNotIn("\n", lines[0])
    with self.assertRaisesRegex(ValueError, "it went off"):
      pickle.loads(pickle.dumps(Bomb()))
    self.assertNotEmpty(UNPICKLED)  # the hook sees it
    parsed(text)
    for expected in ("Not read", "A headline", "Figure: first loss", "no readable table", jax.__version__):
      self.assertIn(expected, text)

  def test_no_checkpoints_is_one_line_and_a_page(self):
    folder = self.root / "bare"
    shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("checkpoints"))
    (problem,) = report.write(folder, folder / "report.html", {"first": TEXT})
    self.assertIn("no walks", problem)
    self.assertIn('{"groups":[]}', (folder / "report.html").read_text(encoding="utf-8"))

  def test_a_claims_file_of_another_kind_is_named(self):
    for content, message in (("a,b\n1,2\n", "no column 'claim'"), ("", "not a readable CSV")):
      folder = self.root / f"claims_{len(content)}"
      folder.mkdir()
      (folder / "claims.csv").write_text(content)
      problems = report.write(folder, folder / "report.html", {})
      self.assertTrue(any(message in problem and "claims.csv" in problem for problem in problems), problems)

  def test_no_folder_is_one_line_and_a_non_zero_exit(self):
    command = [sys.executable, "-m", "experiments.report", f"--results_dir={self.root}/none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    self.assertNotEqual(done.returncode, 0)
    self.assertLen(done.stderr.strip().splitlines(), 1, done.stderr)
    self.assertIn(f"{self.root}/none", done.stderr)
    self.assertFalse((self.root / "none").exists())

  def test_what_is_not_read_is_told_by_the_exit_status_too(self):
    folder = self.root / "damaged"
    shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("checkpoints", "report.html"))
    (folder / "results" / "first_by_lag.parquet").write_bytes(b"PAR1")
    command = [sys.executable, "-m", "experiments.report", f"--results_dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    self.assertEqual(done.returncode, 1)
    damaged, walks = done.stderr.strip().splitlines()
    self.assertStartsWith(damaged, f"not read: {folder}/results/first_by_lag.parquet: is not readable Parquet")
    self.assertIn("has no students", walks)
    self.assertTrue((folder / "report.html").exists())

  def test_in_a_browser_the_slider_moves_the_walk(self):
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    try:
      from playwright.sync_api import sync_playwright
    except ImportError:
      raise unittest.SkipTest("playwright is not installed") from None
    if browser is None:
      raise unittest.SkipTest("no browser is installed")
    with sync_playwright() as playwright:
      view = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page(
        viewport={"width": 390, "height": 844}
      )
      said, requests = [], []
      view.on("console", lambda message: said.append(message.text))
      view.on("pageerror", lambda error: said.append(str(error)))
      view.on("request", lambda request: requests.append(request.url))
      view.goto(f"file://{self.folder}/report.html")
      view.locator("#step").press("Home")
      before = view.inner_text("#now")
      view.locator("#step").press("End")
      self.assertNotEqual(view.inner_text("#now"), before)
      view.locator("#previous").press("Home")  # the viewer's own keys, off the slider
      self.assertStartsWith(view.inner_text("#now"), "Node 1 of ")
      self.assertEqual(view.input_value("#step"), "0")
      view.select_option("#temperature", "2")
      self.assertEqual(view.locator("#strip span").count(), int(view.get_attribute("#step", "max")) + 1)
      self.assertLessEqual(view.evaluate("document.documentElement.scrollWidth"), 390)
      shown = "[...document.querySelectorAll('.pieces > svg')].map(one => one.getBoundingClientRect())"
      for box in view.evaluate(f"{shown}.map(({{left, right, height}}) => ({{left, right, height}}))"):
        self.assertGreater(box["left"], 0)
        self.assertLess(box["right"], 390)
        self.assertGreater(box["height"], 50)
      self.assertEqual(said, [])
      self.assertLen(requests, 1)


class WalkGroupsTest(parameterized.TestCase):
  """Groups of no content: what is walked, in which order, and where a page ends."""

  NAMES = ("b_1", "b_2", "b/3", "a", "b_4/inside", "other")

  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
    for name in self.NAMES:
      files.write_json({}, self.folder / name / "config.json")
    files.write_json({}, self.folder / "a" / "wandb" / "config.json")  # in a group: no group
    self.enter_context(mock.patch.object(traces, "group_walks", lambda path, name, mesh, most: {"name": name}))

  def read(self, pattern=walk_groups.ALL) -> tuple[list[str], list[str]]:
    walks = walk_groups.read(self.folder, ["a", "b"], [], pattern)
    return [group["name"] for group in walks.groups], walks.left_out

  def test_groups_lie_at_any_depth_and_stand_in_the_order_of_experiments(self):
    self.assertEqual(self.read(), (["a", "b/3", "b_1", "b_2", "b_4/inside", "other"], []))

  def test_every_experiment_has_its_turn(self):
    with mock.patch.object(walk_groups, "MOST_GROUPS", 4):
      self.assertEqual(self.read(), (["a", "b/3", "b_1", "other"], ["b_2", "b_4/inside"]))

  @parameterized.parameters((1, ["a"]), (len('{"name":"a"}{"name":"b/3"}'), ["a", "b/3"]))
  def test_a_page_that_is_full_ends(self, most, expected):
    with mock.patch.object(walk_groups, "MOST_BYTES", most):
      self.assertEqual(self.read()[0], expected)

  def test_what_is_left_out_is_named_with_a_command_that_shows_it(self):
    with mock.patch.object(walk_groups, "MOST_GROUPS", 5):
      text = walk_groups.about(walk_groups.read(self.folder, ["a", "b"], []), "a folder/<run>")
    self.assertIn("Not on this page: 1.", text)
    self.assertIn("<code>b_4/inside</code>", text)
    (command,) = re.findall("<pre.*?><code>(.*?)</code>", text)
    arguments = shlex.split(html.unescape(command))
    self.assertEqual(arguments[3:], ["--results_dir=a folder/<run>", "--students=b_4/inside", "--output=students.html"])
    self.assertEqual(self.read("b_4/inside"), (["b_4/inside"], ["a", "b/3", "b_1", "b_2", "other"]))

  def test_what_stands_in_the_model_s_place(self):
    for objective, expected in (
      (MaximumLikelihood(), MODEL),
      (reversed_chain.ReversedChain(), Hinted(MODEL)),
      (LossHints(), Hinted(MODEL)),
      (seed_conditioning.SeededWalks(once="return"), SeedConditioned(MODEL, "return")),
    ):
      self.assertEqual(student_functions.walking_model(objective, MODEL), expected)


class PartsTest(parameterized.TestCase):
  def test_figures_keep_their_shapes_and_lose_what_runs_or_fetches(self):
    text = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 10 10">
      <script>alert(1)</script><image href="http://x/y.png"/><image href="#a" xlink:href="http://x"/>
      <foreignObject/><style>*{fill:url(http://x)}</style>
      <a href="http://x"><path d="M0 0"/></a><defs><clipPath id="c"><path id="p" d="M0 0H1"/></clipPath></defs>
      <g clip-path="url(#c)" onclick="alert(1)"><use xlink:href="#p" style="fill: url('http://x')"/>text</g></svg>"""
    clean = inline.inline(text, "name", 'A "label"')
    for gone in ("alert", "http", "script", "image", "foreign", "<style", "<a"):
      self.assertNotIn(gone, clean)
    for kept in ('id="name-c"', 'url(#name-c)"', 'href="#name-p"', "text", 'viewBox="0 0 10 10"', "&quot;label&quot;"):
      self.assertIn(kept, clean)

  @parameterized.parameters("", "<svg", "<p>text</p>", "<svg xmlns='http://www.w3.org/2000/svg'/>")
  def test_what_is_no_figure_is_refused(self, text):
    with self.assertRaises(ValueError):
      inline.inline(text, "name", "label")

  @parameterized.parameters((math.nan, "–"), (-math.inf, "−∞"), (0.12345, "0.123"), (-2.0, "−2"), (31.0, "31"))
  def test_numbers(self, value, expected):
    self.assertEqual(verdicts.number(value), expected)

  def test_conditions_are_named_by_what_differs(self):
    plain, seeded = [MaximumLikelihood()] * 2, [seed_conditioning.SeededWalks(share) for share in (1.0, 0.25)]
    self.assertEqual(traces.condition_names(TASKS, plain), ["explore_prob 0", "explore_prob 0.5"])
    self.assertEqual(traces.condition_names(TASKS[:1] * 2, seeded), ["share 1", "share 0.25"])
    self.assertEqual(traces.condition_names(TASKS[:1], plain[:1]), [""])

  def test_thousandths_leave_out_what_rounds_to_none(self):
    self.assertEqual(traces._thousandths(np.array([0.25, 0.0004, 0.7496])), [0, 250, 2, 750])


if __name__ == "__main__":
  absltest.main()
