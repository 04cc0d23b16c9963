"""One training-time remedy a file. Who imports this package can load the students of all of them."""

from loopjax.remedies import (
  confidence_penalty,
  contrastive,
  curriculum,
  distillation,
  ditto,
  first_token,
  label_noise,
  label_smoothing,
  loop_erased,
  margin_loss,
  policy_gradient,
  reversed_chain,
  scale_grad,
  seed_conditioning,
  sequence_unlikelihood,
  unlikelihood,
)

__all__ = [
  "confidence_penalty",
  "contrastive",
  "curriculum",
  "distillation",
  "ditto",
  "first_token",
  "label_noise",
  "label_smoothing",
  "loop_erased",
  "margin_loss",
  "policy_gradient",
  "reversed_chain",
  "scale_grad",
  "seed_conditioning",
  "sequence_unlikelihood",
  "unlikelihood",
]
