import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from absl.testing import absltest, parameterized

from loopjax.runtime import files


class FilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

  def names(self):
    return sorted(path.name for path in self.folder.iterdir())

  def test_writes_into_folders_that_are_not_there_and_leaves_nothing_else(self):
    path = self.folder / "a" / "b.txt"
    files.write_atomically(path, lambda temporary: temporary.write_text("new"))
    self.assertEqual(path.read_text(), "new")
    self.assertEqual([p.name for p in path.parent.iterdir()], ["b.txt"])

  def test_the_old_content_stays_until_the_new_is_whole(self):
    path = self.folder / "a.txt"
    path.write_text("old")
    seen = []

    def write(temporary):
      temporary.write_text("ne")
      seen.append((path.read_text(), temporary.parent == path.parent, f".tmp-{os.getpid()}" in temporary.name))
      temporary.write_text("new")

    files.write_atomically(path, write)
    self.assertEqual(seen, [("old", True, True)])
    self.assertEqual(path.read_text(), "new")

  def test_a_writer_that_raises_changes_nothing(self):
    path = self.folder / "a.txt"
    path.write_text("old")

    def write(temporary):
      temporary.write_text("ne")
      raise RuntimeError("disk full")

    with self.assertRaisesRegex(RuntimeError, "disk full"):
      files.write_atomically(path, write)
    self.assertEqual(path.read_text(), "old")
    self.assertEqual(self.names(), ["a.txt"])

  def test_a_killed_writer_changes_nothing(self):
    path = self.folder / "a.txt"
    path.write_text("old")
    # The child kills itself in the middle of writing: no cleanup of its own runs.
    child = """if True:
      import os, signal, sys
      from loopjax.runtime import files
      def write(temporary):
        temporary.write_text("ne")
        os.kill(os.getpid(), signal.SIGKILL)
      files.write_atomically(sys.argv[1], write)
    """
    self.assertEqual(subprocess.run([sys.executable, "-c", child, str(path)], check=False).returncode, -signal.SIGKILL)
    self.assertEqual(path.read_text(), "old")
    files.write_atomically(path, lambda temporary: temporary.write_text("new"))
    self.assertEqual(path.read_text(), "new")

  def test_json_round_trip(self):
    path = self.folder / "a.json"
    value = {"name": "größe", "sizes": [1, 2.5, None, True], "nested": {"a": {}}}
    files.write_json(value, path)
    self.assertEqual(files.read_json(path), value)
    self.assertEqual(json.loads(path.read_text(encoding="utf-8")), value)

  @parameterized.parameters(({"a": float("nan")},), ({"a": float("inf")},), ({"a": {1, 2}},), ({"a": np.float32(1)},))
  def test_what_is_not_json_is_refused_and_the_file_stays(self, value):
    path = self.folder / "a.json"
    files.write_json({"a": 1}, path)
    with self.assertRaisesRegex(ValueError, r"a\.json: cannot be written as JSON"):
      files.write_json(value, path)
    self.assertEqual(files.read_json(path), {"a": 1})
    self.assertEqual(self.names(), ["a.json"])

  @parameterized.parameters((b"",), (b'{"a": 1',), (b'{"a": 1}{',), (b'"\xff"',))
  def test_bad_json_is_named_in_one_line(self, content):
    path = self.folder / "bad.json"
    path.write_bytes(content)
    with self.assertRaises(ValueError) as caught:
      files.read_json(path)
    self.assertStartsWith(str(caught.exception), f"{path}: is not JSON: ")
    self.assertNotIn("\n", str(caught.exception))

  def test_missing_json(self):
    with self.assertRaisesRegex(FileNotFoundError, "missing.json"):
      files.read_json(self.folder / "missing.json")

  def test_a_folder_that_is_a_file_is_one_line(self):
    (self.folder / "file").write_text("mine")
    for path in (self.folder / "file", self.folder / "file" / "below" / "it"):
      for use in (lambda path=path: files.locked(path).__enter__(), lambda path=path: files.write_json({}, path / "a")):
        with self.assertRaisesRegex(ValueError, f"^{path}: cannot be a folder, since it is a file or lies in one$"):
          use()
    self.assertEqual((self.folder / "file").read_text(), "mine")

  def test_parquet_keeps_its_identity(self):
    path, frame = self.folder / "a.parquet", pd.DataFrame({"seed": [0, 1], "name": ["x", "y"]})
    identity = {"experiment": "größe", "config": {"sizes": [1, 2.5], "task": {"hidden": False}}}
    files.write_parquet(frame, path, identity)
    self.assertEqual(files.read_identity(path), identity)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    files.write_parquet(frame, path)
    self.assertIsNone(files.read_identity(path))

  @parameterized.parameters(b"", b"PAR1", b"x" * 1000)
  def test_the_identity_of_what_is_no_parquet_is_one_line(self, content):
    path = self.folder / "a.parquet"
    path.write_bytes(content)
    with self.assertRaisesRegex(ValueError, f"^{path}: is not readable Parquet: ") as caught:
      files.read_identity(path)
    self.assertNotIn("\n", str(caught.exception))

  def test_parquet_round_trip(self):
    path = self.folder / "a.parquet"
    frame = pd.DataFrame({"seed": [0, 1], "loops": [0.5, float("nan")], "remedy": ["none", "margin"]}, index=[7, 3])
    files.write_parquet(frame, path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame.reset_index(drop=True))
    self.assertEqual(self.names(), ["a.parquet"])


HOLD = """
import sys, time
from loopjax.runtime import files
with files.locked(sys.argv[1]):
  print("held", flush=True)
  time.sleep(60)
"""


class LockTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = Path(self.enterContext(tempfile.TemporaryDirectory())) / "run"

  def check_held(self) -> None:
    with self.assertRaisesRegex(files.Locked, f"^{self.folder}: another process works there; .*$") as caught:
      files.locked(self.folder).__enter__()
    self.assertNotIn("\n", str(caught.exception))

  def check_free(self) -> None:
    with files.locked(self.folder):
      self.check_held()

  def test_one_at_a_time_and_free_whichever_way_it_ends(self):
    self.check_free()
    with self.assertRaisesRegex(RuntimeError, "a defect"), files.locked(self.folder):
      raise RuntimeError("a defect")
    self.check_free()
    self.assertEqual([path.name for path in self.folder.iterdir()], ["lock"])

  def test_of_two_processes_the_second_is_refused_until_the_first_is_killed(self):
    command = [sys.executable, "-c", HOLD, str(self.folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    self.addCleanup(child.kill)
    self.assertEqual(child.stdout.readline(), "held\n")
    self.check_held()
    child.kill()
    child.communicate()
    self.check_free()


if __name__ == "__main__":
  absltest.main()
