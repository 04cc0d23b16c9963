"""What has a benchmark's worker processes end when it does, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
  """Has this worker process end as soon as the process that started it is gone; the initializer of a pool.

  A benchmark that is killed closes nothing: its workers would wait for their next task for ever, and keep their memory.
  So a thread waits for the end of the pipe through which `multiprocessing` started the worker.
  """
  parent = multiprocessing.parent_process()
  assert parent is not None, "called in a worker"

  def watch() -> None:
    parent.join()
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
