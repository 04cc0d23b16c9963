"""The remedies that are compared, and the settings at which each is tried: three each, the default first.

Defaults are those of the sources (docs/remedies.md). The other two settings are a weaker and a stronger one, mostly
half and double. They were fixed before anything was run. Where a source gives a default for large vocabularies alone,
such as the k of top-k, it is scaled to the toy's, about ten labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from loopjax.generation.processors import Processor
from loopjax.generation.processors.contrastive_decoding import ContrastiveDecoding
from loopjax.generation.processors.contrastive_search import ContrastiveSearch
from loopjax.generation.processors.count_penalties import FrequencyPenalty, PresencePenalty
from loopjax.generation.processors.dry import Dry
from loopjax.generation.processors.dynamic_temperature import DynamicTemperature
from loopjax.generation.processors.early_stop import EarlyStop
from loopjax.generation.processors.epsilon import Epsilon
from loopjax.generation.processors.eta import Eta
from loopjax.generation.processors.loop_temperature import LoopTemperature
from loopjax.generation.processors.lz_penalty import LzPenalty
from loopjax.generation.processors.min_p import MinP
from loopjax.generation.processors.no_repeat_ngram import NoRepeatNgram
from loopjax.generation.processors.repetition_aware import RepetitionAware
from loopjax.generation.processors.repetition_penalty import ProbabilityPenalty, RepetitionPenalty
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.processors.top_k import TopK
from loopjax.generation.processors.top_n_sigma import TopNSigma
from loopjax.generation.processors.top_p import TopP
from loopjax.generation.processors.typical import Typical
from loopjax.generation.processors.xtc import Xtc
from loopjax.generation.settings import Generation, by_name
from loopjax.models.graph_transformer import matched
from loopjax.models.transformer import Transformer
from loopjax.remedies import (
  confidence_penalty,
  contrastive,
  curriculum,
  ditto,
  first_token,
  label_smoothing,
  loop_erased,
  loss_hints,
  margin_loss,
  multi_token,
  policy_gradient,
  reversed_chain,
  scale_grad,
  sequence_unlikelihood,
  unlikelihood,
)
from loopjax.remedies.distillation import Distillation
from loopjax.remedies.seed_conditioning import SeededWalks, with_seeds
from loopjax.star_graph.contrasted import BesideAmateur, LookingAhead
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.objective import MaximumLikelihood, ObjectiveConfig

TRIALS = 3
Architecture = Callable[[Transformer, StarGraph], Transformer]


class DecodingRemedy(NamedTuple):
  """A remedy that changes how a trained student is decoded.

  Attributes:
    processor: the processor.
    strengths: of its trials, the default first.
    is_last: whether it acts after the temperature, as what drops unlikely tokens does; else before it.
    walks_as: the model -> what stands in its place when students walk; None: the model. What needs that cannot be
      applied to the exact teacher.
    amateur_share: where above 0, the share of the training steps after which a student was the amateur that stands
      beside it.
    passes: forward passes that a node costs.
  """

  processor: Processor
  strengths: tuple[float, float, float]
  is_last: bool = False
  walks_as: Callable[[Any], Any] | None = None
  amateur_share: float = 0.0
  passes: int = 1

  def settings(self) -> list[str]:
    """The trials as text."""
    return [f"{self.processor.name} = {strength:g}" for strength in self.strengths]

  def generation(self, strengths: Sequence[float], temperatures: Sequence[float]) -> Generation:
    """A column per strength and temperature, strength by strength."""
    pair = (Temperature(), self.processor) if self.is_last else (self.processor, Temperature())
    return by_name(pair, [{self.processor.name: s, Temperature.name: t} for s in strengths for t in temperatures])


class TrainingRemedy(NamedTuple):
  """A remedy that changes what students are trained for.

  Attributes:
    objectives: of its trials, the default first; they differ in traced strengths alone.
    is_continued: whether it begins with students that have been trained for the first half of the steps.
    architectures: of its trials, where these are no objectives: each (plain model, task) -> model.
    model: (plain model, task) -> the architecture that all of its trials need.
  """

  objectives: tuple[ObjectiveConfig, ...] = (MaximumLikelihood(),)
  is_continued: bool = False
  architectures: Mapping[str, Architecture] = MappingProxyType({})
  model: Architecture = lambda plain, task: plain

  def settings(self) -> list[str]:
    """The trials as text."""
    return list(self.architectures) or [repr(objective) for objective in self.objectives]


DECODING: Mapping[str, DecodingRemedy] = {
  "repetition penalty": DecodingRemedy(RepetitionPenalty(), (1.2, 1.1, 1.5)),
  "probability penalty": DecodingRemedy(ProbabilityPenalty(), (1.2, 1.1, 1.5)),
  "presence penalty": DecodingRemedy(PresencePenalty(), (1.0, 0.5, 2.0)),
  "frequency penalty": DecodingRemedy(FrequencyPenalty(), (0.5, 0.25, 1.0)),
  "no repeated n-gram": DecodingRemedy(NoRepeatNgram(), (3, 6, 4)),
  "DRY": DecodingRemedy(Dry(), (0.8, 0.4, 1.6)),
  "LZ penalty": DecodingRemedy(LzPenalty(), (0.15, 0.075, 0.3)),
  "loop-triggered temperature": DecodingRemedy(LoopTemperature(), (1.0, 0.5, 2.0)),
  "early stop": DecodingRemedy(EarlyStop(), (3, 5, 2)),
  "dynamic temperature": DecodingRemedy(DynamicTemperature(), (0.5, 0.25, 1.0)),
  "min-p": DecodingRemedy(MinP(), (0.1, 0.05, 0.2), is_last=True),
  "top-p": DecodingRemedy(TopP(), (0.9, 0.95, 0.8), is_last=True),
  "top-k": DecodingRemedy(TopK(), (3, 5, 2), is_last=True),
  "typical": DecodingRemedy(Typical(), (0.9, 0.95, 0.5), is_last=True),
  "epsilon": DecodingRemedy(Epsilon(), (0.04, 0.02, 0.08), is_last=True),
  "eta": DecodingRemedy(Eta(), (0.04, 0.02, 0.08), is_last=True),
  "top-n-sigma": DecodingRemedy(TopNSigma(), (1.0, 2.0, 0.5), is_last=True),
  "XTC": DecodingRemedy(Xtc(), (0.5, 0.25, 1.0), is_last=True),
  "repetition-aware": DecodingRemedy(RepetitionAware(), (0.1, 0.2, 0.05), is_last=True),
  "contrastive search": DecodingRemedy(ContrastiveSearch(), (0.6, 0.3, 0.8), walks_as=LookingAhead, passes=5),
  "contrastive decoding": DecodingRemedy(
    ContrastiveDecoding(), (1.0, 0.5, 2.0), walks_as=BesideAmateur, amateur_share=0.25, passes=2
  ),
}

_HALF_AND_DOUBLE = (1.0, 0.5, 2.0)


def _scaled(kind: Callable[..., ObjectiveConfig], field: str, default: float) -> tuple[ObjectiveConfig, ...]:
  """Trials at the default of a field, half and double of it."""
  return tuple(kind(**{field: factor * default}) for factor in _HALF_AND_DOUBLE)


def _shares(kind: Callable[..., ObjectiveConfig], **fixed: Any) -> tuple[ObjectiveConfig, ...]:
  """Trials at a share of 1, and where it stays below."""
  return tuple(kind(share=share, **fixed) for share in (1.0, 0.5, 0.25))


def _graph_networks() -> Mapping[str, Architecture]:
  """Graph networks with as many rounds as a chain has nodes, and 8, 4 and 16 features a node."""

  def of_width(width: int) -> Architecture:
    return lambda plain, task: dataclasses.replace(matched(plain, task), node_width=width)

  return {f"GraphTransformer(node_width={width})": of_width(width) for width in (8, 4, 16)}


def _random_features() -> Mapping[str, Architecture]:
  """Graph networks without rounds: what a node has is its mark and 4, 2 or 8 random features."""

  def of_number(number: int) -> Architecture:
    return lambda plain, task: dataclasses.replace(matched(plain, task, random_features=number), graph_rounds=0)

  return {f"GraphTransformer(graph_rounds=0, random_features={number})": of_number(number) for number in (4, 2, 8)}


TRAINING: Mapping[str, TrainingRemedy] = {
  "unlikelihood": TrainingRemedy(_scaled(unlikelihood.Unlikelihood, "unlikelihood_weight", 1.0)),
  "label smoothing": TrainingRemedy(_scaled(label_smoothing.LabelSmoothing, "smoothing", 0.1)),
  "confidence penalty": TrainingRemedy(_scaled(confidence_penalty.ConfidencePenalty, "entropy_weight", 0.1)),
  "ScaleGrad": TrainingRemedy(tuple(scale_grad.ScaleGrad(gamma=gamma) for gamma in (0.5, 0.8, 0.2))),
  "SimCTG": TrainingRemedy(_scaled(contrastive.Contrastive, "contrastive_weight", 1.0)),
  "DITTO": TrainingRemedy(_scaled(ditto.Ditto, "repetition_weight", 1.0)),
  "margin loss": TrainingRemedy(_scaled(margin_loss.MarginLoss, "margin_weight", 0.3)),
  "exploration curriculum": TrainingRemedy(
    tuple(curriculum.Curriculum(num_steps=steps) for steps in (1_000, 500, 1_500))
  ),
  "loop-erased walks": TrainingRemedy(_shares(loop_erased.LoopErased)),
  "reversed chain": TrainingRemedy(_shares(reversed_chain.ReversedChain)),
  "seed a walk": TrainingRemedy(_shares(SeededWalks, once="walk"), model=with_seeds),
  "seed a return": TrainingRemedy(_shares(SeededWalks, once="return"), model=with_seeds),
  "several tokens ahead": TrainingRemedy(
    tuple(multi_token.MultiToken(ahead_weight=weight, num_tokens=3) for weight in _HALF_AND_DOUBLE)
  ),
  "graph network": TrainingRemedy(architectures=_graph_networks()),
  "random node features": TrainingRemedy(architectures=_random_features()),
  "training restarted": TrainingRemedy((MaximumLikelihood(),), is_continued=True),
  "first token of a loop": TrainingRemedy(_scaled(first_token.FirstToken, "pair_weight", 1.0), is_continued=True),
  "sequence unlikelihood": TrainingRemedy(
    _scaled(sequence_unlikelihood.SequenceUnlikelihood, "sequence_weight", 1.0), is_continued=True
  ),
  "raw walks of itself": TrainingRemedy(_shares(Distillation, walks="raw"), is_continued=True),
  "successful walks of itself": TrainingRemedy(_shares(Distillation, walks="successful"), is_continued=True),
  "erased walks of itself": TrainingRemedy(_shares(Distillation, walks="erased"), is_continued=True),
  "erased walks in rounds": TrainingRemedy(_shares(Distillation, walks="erased", refresh_every=250), is_continued=True),
  "hints where the loss is high": TrainingRemedy(_shares(loss_hints.LossHints), is_continued=True),
  "policy gradient": TrainingRemedy(
    tuple(policy_gradient.PolicyGradient(kl_weight=weight) for weight in (0.04, 0.0, 0.2)), is_continued=True
  ),
}
"""`training restarted` is the control of those that are continued: maximum likelihood twice, each time half the steps.
"""
