"""One training-time remedy a file. Who imports this package can load the students of all of them: no list names files.

Three files are no remedies: `parts` and `own_walks` are what remedies share, and `hinted` is how students with hints
walk.
"""

from loopjax.runtime import modules

MODULES = modules.import_all(__name__, __path__)
"""The names of all files, `parts` and the like among them."""
