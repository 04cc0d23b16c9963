"""The persistent compilation cache in processes of their own, some of them killed."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from unittest import mock

from absl.testing import absltest

from loopjax.runtime import compilation_cache

# Prints how many programs came out of the cache, and the program's result.
PROGRAM = """
import os, pathlib, signal, sys
import jax, jax.numpy as jnp
from loopjax.runtime import compilation_cache
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
compilation_cache.enable(pathlib.Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
result = float(jax.jit(lambda x: jnp.sum(jnp.sin(x) @ x))(jnp.ones((3, 3))))
{then}
print(len(hits), round(result, 3))
"""
HALF_WRITTEN = """
own = pathlib.Path(jax.config.jax_compilation_cache_dir)
for entry in own.glob("*-cache"):
  entry.write_bytes(entry.read_bytes()[:100])
"""
KILLED_IN_MID_WRITE = f"""{HALF_WRITTEN}
os.kill(os.getpid(), signal.SIGKILL)
"""


class CompilationCacheTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

  def start(self, then: str = "", **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM.format(then=then), str(self.folder)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=clean | environment, stdout=pipe, stderr=pipe, text=True)

  def hits(self, process: subprocess.Popen) -> int:
    out, err = process.communicate()
    self.assertEqual(process.returncode, 0, err)
    self.assertNotIn("cache", err.lower())  # jax warns of entries that it cannot read
    hits, result = out.split()
    self.assertEqual(result, "22.72")  # 27 sin(1)
    return int(hits)

  def entries(self) -> list[pathlib.Path]:
    return sorted(self.folder.glob("*/entries/*"))

  def folders_of_processes(self) -> list[pathlib.Path]:
    return sorted(self.folder.glob("*/running-*"))

  def test_a_second_process_finds_what_the_first_compiled(self):
    self.assertEqual(self.hits(self.start()), 0)
    self.assertNotEmpty(self.entries())
    self.assertGreaterEqual(self.hits(self.start()), 1)
    self.assertEmpty(self.folders_of_processes())

  def test_a_kill_in_mid_write_leaves_no_half_entry(self):
    killed = self.start(then=KILLED_IN_MID_WRITE)
    killed.communicate()
    self.assertEqual(killed.returncode, -signal.SIGKILL)
    self.assertEmpty(self.entries())
    self.assertLen(self.folders_of_processes(), 1)
    self.assertEqual(self.hits(self.start()), 0)
    self.assertEmpty(self.folders_of_processes())  # the dead process's too
    self.assertGreaterEqual(self.hits(self.start()), 1)

  def test_a_half_written_entry_is_not_published(self):
    self.assertEqual(self.hits(self.start(then=HALF_WRITTEN)), 0)  # as a full disk leaves it
    self.assertEmpty(self.entries())
    self.assertEqual(self.hits(self.start()), 0)

  def test_neighbours_share_it(self):
    neighbours = [self.start() for _ in range(4)]
    for neighbour in neighbours:
      self.hits(neighbour)
    self.assertGreaterEqual(self.hits(self.start()), 1)
    self.assertEmpty(self.folders_of_processes())

  def test_a_folder_of_a_living_process_stays(self):
    living = self.start(then="print('ready', flush=True); import time; time.sleep(600)")
    self.assertEqual(living.stdout.readline(), "ready\n")
    self.hits(self.start())
    self.assertLen(self.folders_of_processes(), 1)
    living.kill()
    living.communicate()

  def test_the_users_choice_is_left_alone(self):
    chosen = self.folder / "chosen"
    self.hits(self.start(JAX_COMPILATION_CACHE_DIR=str(chosen)))
    self.assertNotEmpty(list(chosen.glob("*-cache")))
    self.assertEmpty(self.entries())

  def test_a_folder_that_cannot_be_written_is_no_error(self):
    self.folder = self.folder / "file"
    self.folder.write_text("")
    self.assertEqual(self.hits(self.start()), 0)

  def test_the_oldest_entries_go_first(self):
    for age, name in enumerate(["new-cache", "middle-cache", "old-cache"]):
      (self.folder / name).write_bytes(bytes(1000))
      os.utime(self.folder / name, (0, 1_000_000 - age))
    self.enterContext(mock.patch.object(compilation_cache, "MAX_BYTES", 2500))
    compilation_cache._prune(self.folder)
    self.assertEqual(sorted(entry.name for entry in self.folder.iterdir()), ["middle-cache", "new-cache"])


if __name__ == "__main__":
  absltest.main()
