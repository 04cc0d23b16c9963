"""One HTML page from a results folder: claims, figures, settings, and walks of the students to step through.

The page is one file that works offline: figures are inline SVG, data are JSON inside, nothing is fetched. Whatever of
the folder cannot be read costs one line on the page, not the page.
"""

from __future__ import annotations

from loopjax.report.page import write
from loopjax.report.sentences import conclusion

__all__ = ["conclusion", "write"]
