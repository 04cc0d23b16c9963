"""Figures: tidy frames in, matplotlib figures out. No global state: no pyplot, no rcParams that outlive a call.

One colour per condition, from a palette that colour-blind readers tell apart. A solid line is the mean over seeds of
students and its band the 95% t-interval; seeds that are NaN (diverged, left out of the results) do not count, and the
legend says how many did. Broken lines are exact theory, and the legend names which; hollow diamonds are published.

Modules are imported when first used: matplotlib takes half a second, and whoever draws nothing should not wait.
`__init__.pyi` lists what there is.

Shapes: S seeds, X places on the horizontal axis.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
