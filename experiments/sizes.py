"""What the presets of several experiments share: students and temperatures.

`quick`: 2 CPU cores, minutes; small graphs. `standard`: a laptop in hours, one accelerator in minutes. `paper`: the
published student, accelerators. Students are sized so that they are fit, by pilots that looked at losses and broken
walks alone (docs/learning.md); nothing was chosen after a claim was looked at.
"""

from __future__ import annotations

from loopjax.models.transformer import Transformer
from loopjax.training.step import Training

COLD_TO_WARM = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
ROTARY = Transformer(num_layers=2, num_heads=4, width=64, matmul_dtype="bfloat16")
PAPER_STUDENT = Transformer(num_layers=12, num_heads=12, width=768, matmul_dtype="bfloat16", remat=True)
PAPER_TRAINING = Training(num_steps=20_000, rows_per_step=128, learning_rate=3e-4, warmup_steps=1_000)


def small_student(num_layers: int) -> Transformer:
  """A small student that soon reads the graph: without positions, its prompt read both ways (docs/learning.md)."""
  return Transformer(
    num_layers=num_layers, num_heads=2 if num_layers == 4 else 4, width=64, positions="none",
    prompt_attention="bidirectional", matmul_dtype="bfloat16",
  )  # fmt: skip
