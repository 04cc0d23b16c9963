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

from loopjax import files


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
      from loopjax import files
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

  def test_parquet_round_trip(self):
    path = self.folder / "a.parquet"
    frame = pd.DataFrame({"seed": [0, 1], "loops": [0.5, float("nan")], "remedy": ["none", "margin"]}, index=[7, 3])
    files.write_parquet(frame, path)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame.reset_index(drop=True))
    self.assertEqual(self.names(), ["a.parquet"])


if __name__ == "__main__":
  absltest.main()
