"""What the tests of trace generation share: problems, the command's words, and what it wrote."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import tempfile
from pathlib import Path
from unittest import mock

from absl.testing import parameterized

from loopjax.traces import readers, request
from loopjax.traces.main import main


class GenerateCase(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.output = self.folder / "out.jsonl"
    self.enterContext(mock.patch.object(request, "FIRST_WAIT", 0.01))
    self.problems = self.write("p.jsonl", [{"id": f"p{i}", "problem": f"{i} + 1?", "answer": "4"} for i in range(3)])

  def write(self, name: str, records) -> str:
    path = self.folder / name
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)

  def words(self, server, *flags: str, samples: int = 2) -> list[str]:
    given = dict(flag.partition("=")[::2] for flag in flags)
    ours = {"--base_url": server.url, "--model": "org/m", "--temperatures": "0,1", "--samples": str(samples),
            "--output": str(self.output)}  # fmt: skip
    return ["generate", self.problems, *(f"{a}={b}" if b else a for a, b in (ours | given).items())]

  def run_main(self, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      status = main(arguments)
    return status, out.getvalue(), err.getvalue()

  def make(self, server, *flags: str, samples: int = 2) -> tuple[int, str, str]:
    return self.run_main(*self.words(server, *flags, samples=samples))

  def records(self) -> list[dict]:
    return [json.loads(line) for line in self.output.read_bytes().splitlines()]

  def traces(self) -> list:
    return list(readers.read([str(self.output)]))

  def assert_whole(self, num_problems: int = 3, samples: int = 2):
    """Each problem, temperature and sample once."""
    found = sorted((one["problem_id"], one["temperature"], one["sample"]) for one in self.records())
    asked = itertools.product([f"p{i}" for i in range(num_problems)], [0, 1], range(samples))
    self.assertEqual(found, sorted(asked))
