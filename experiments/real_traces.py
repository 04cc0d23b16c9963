"""Loops in traces of real models, the same as the command `loopjax-traces`.

python -m experiments.real_traces scan traces.jsonl --output_dir=results/traces
"""

from __future__ import annotations

import sys

from loopjax.traces.main import main

if __name__ == "__main__":
  sys.exit(main())
