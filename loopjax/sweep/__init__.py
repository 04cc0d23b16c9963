"""Sweeps: a grid of config changes times blocks of seeds, run anywhere in any number of parts, read as one table.

`units` says what there is to do, `store` does one unit and keeps its results, `launch` and `ray_launcher` do many,
`tables` reads them. `docs/sweeps.md` shows their use, `experiments/sweep.py` is the binary.
"""

from loopjax.sweep.tables import load, merge

__all__ = ["load", "merge"]
