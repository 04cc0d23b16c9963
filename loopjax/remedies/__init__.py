"""One training-time remedy a file. Who imports this package can load the students of all of them."""

from loopjax.remedies import label_noise, margin_loss

__all__ = ["label_noise", "margin_loss"]
