"""Processors against other people's code: Hugging Face transformers and llama.cpp, 1,000 random cases each.

All cases of a setting are the columns of one call of ours. What is banned must agree exactly, logits within 1e-5.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from absl.testing import absltest, parameterized

from loopjax.generation.processors.count_penalties import FrequencyPenalty, PresencePenalty
from loopjax.generation.processors.dry import Dry
from loopjax.generation.processors.dynamic_temperature import DynamicTemperature
from loopjax.generation.processors.epsilon import Epsilon
from loopjax.generation.processors.eta import Eta
from loopjax.generation.processors.min_p import MinP
from loopjax.generation.processors.no_repeat_ngram import NoRepeatNgram
from loopjax.generation.processors.repetition_penalty import ProbabilityPenalty, RepetitionPenalty
from loopjax.generation.processors.temperature import Temperature
from loopjax.generation.processors.top_k import TopK
from loopjax.generation.processors.top_n_sigma import TopNSigma
from loopjax.generation.processors.top_p import TopP
from loopjax.generation.processors.typical import Typical
from loopjax.generation.processors.xtc import Xtc
from tests.generation import llama_cpp
from tests.generation.along import Case, processed

CASES, LENGTH, VOCABULARY = 1000, 30, 12


@functools.cache
def torch_and_peers() -> tuple[Any, Any]:
  """Imported where these tests run, not wherever tests are collected: it takes seconds."""
  import torch
  from transformers.generation import logits_process

  torch.set_num_threads(1)
  return torch, logits_process


class Cases:
  """N random texts [N, W] of which the first `lengths` [N] tokens are read, and logits [N, V]."""

  def __init__(self, seed: int, count: int = CASES, vocabulary: int = VOCABULARY, tokens: int = VOCABULARY):
    self.rng = rng = np.random.default_rng(seed)
    self.texts = rng.integers(tokens, size=(count, LENGTH))
    self.lengths = rng.integers(1, LENGTH + 1, size=count)
    self.logits = (rng.uniform(0.2, 5, size=(count, 1)) * rng.normal(size=(count, vocabulary))).astype(np.float32)

  def __len__(self) -> int:
    return len(self.lengths)

  def read(self, i: int) -> list[int]:
    return self.texts[i, : self.lengths[i]].tolist()

  def ours(self, processor, strengths, *, reads: bool = True) -> np.ndarray:
    """The logits [N, V] after the processor, at the end of each text; `reads`, whether it looks at the text."""
    num_steps = LENGTH if reads else 2
    logits = np.broadcast_to(self.logits, (num_steps, 1, *self.logits.shape))
    keys = np.zeros((len(self), 2), np.uint32)
    given = Case(self.texts[None, :, :num_steps], logits, np.zeros((1, 0), int), {}, jax.random.wrap_key_data(keys))
    return processed(processor, strengths, given)[self.lengths - 1 if reads else 0, 0, np.arange(len(self))]


class OraclesTest(parameterized.TestCase):
  def assert_same(self, ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(theirs))
    kept = np.isfinite(theirs)
    self.assertTrue(np.any(kept))
    np.testing.assert_allclose(ours[kept], theirs[kept], atol=1e-5, rtol=1e-5)

  def of_transformers(self, cases: Cases, peer: str, strengths: list, *, texts: bool = True) -> np.ndarray:
    torch, peers = torch_and_peers()
    after = []
    for i, strength in enumerate(strengths):
      ids = torch.tensor([cases.read(i) if texts else [0]])
      after.append(getattr(peers, peer)(strength)(ids, torch.from_numpy(cases.logits[i : i + 1].copy()))[0].numpy())
    return np.array(after)

  @parameterized.parameters(
    (MinP, "MinPLogitsWarper", 0.0, 1.0), (TopP, "TopPLogitsWarper", 0.02, 0.98),
    (Typical, "TypicalLogitsWarper", 0.02, 0.98), (Epsilon, "EpsilonLogitsWarper", 0.001, 0.9),
    (Eta, "EtaLogitsWarper", 0.001, 0.9), (Temperature, "TemperatureLogitsWarper", 0.05, 3.0),
  )  # fmt: skip
  def test_transformers(self, kind, peer, low, high):
    cases = Cases(0)
    strengths = cases.rng.uniform(low, high, size=CASES).astype(np.float32)
    theirs = self.of_transformers(cases, peer, strengths.tolist(), texts=False)
    self.assert_same(cases.ours(kind(), strengths, reads=False), theirs)

  @parameterized.parameters((TopP, "TopPLogitsWarper"), (Typical, "TypicalLogitsWarper"))
  def test_transformers_where_a_vocabulary_is_sorted(self, kind, peer):
    cases = Cases(1, count=CASES // 4, vocabulary=400)
    strengths = cases.rng.uniform(0.02, 0.98, size=len(cases)).astype(np.float32)
    theirs = self.of_transformers(cases, peer, strengths.tolist(), texts=False)
    self.assert_same(cases.ours(kind(), strengths, reads=False), theirs)

  @parameterized.parameters(VOCABULARY, 400)
  def test_transformers_top_k_keeps_ties(self, vocabulary):
    cases = Cases(2, vocabulary=vocabulary)
    cases.logits = np.round(cases.logits)
    strengths = cases.rng.integers(1, 10, size=CASES)
    theirs = self.of_transformers(cases, "TopKLogitsWarper", strengths.tolist(), texts=False)
    self.assertTrue(np.any(np.isfinite(theirs).sum(axis=-1) > strengths))
    self.assert_same(cases.ours(TopK(), strengths, reads=False), theirs)

  def test_transformers_repetition_penalty(self):
    cases = Cases(3)
    strengths = cases.rng.uniform(0.3, 3, size=CASES).astype(np.float32)
    theirs = self.of_transformers(cases, "RepetitionPenaltyLogitsProcessor", strengths.tolist())
    self.assert_same(cases.ours(RepetitionPenalty(), strengths), theirs)

  def test_transformers_repetition_penalty_of_log_probabilities(self):
    cases = Cases(4)
    strengths = cases.rng.uniform(0.3, 3, size=CASES).astype(np.float32)
    ours, offsets = cases.ours(ProbabilityPenalty(), strengths), cases.logits
    torch, _ = torch_and_peers()
    cases.logits = torch.log_softmax(torch.from_numpy(cases.logits), dim=-1).numpy()
    theirs = self.of_transformers(cases, "RepetitionPenaltyLogitsProcessor", strengths.tolist())
    self.assert_same(ours - offsets + cases.logits, theirs)

  def test_transformers_no_repeat_ngram(self):
    cases = Cases(5, tokens=3)
    strengths = cases.rng.integers(1, 6, size=CASES)
    theirs = self.of_transformers(cases, "NoRepeatNGramLogitsProcessor", strengths.tolist())
    self.assert_same(cases.ours(NoRepeatNgram(), strengths), theirs)

  @parameterized.parameters(
    (MinP(), "min_p", 0.01, 1.0, lambda m: (m, 1)), (Typical(), "typical", 0.02, 0.98, lambda m: (m, 1)),
    (TopNSigma(), "top_n_sigma", 0.01, 3.0, lambda n: (n,)),
    (DynamicTemperature(), "temp_ext", 0.01, 1.0, lambda d: (1.0, d, 1.0)),
    (DynamicTemperature(exponent=2.5), "temp_ext", 0.01, 1.0, lambda d: (1.0, d, 2.5)),
    (Xtc(threshold=0.1), "xtc", 1.0, 1.0, lambda q: (q, 0.1, 1, 0)),
    (Xtc(threshold=0.25), "xtc", 1.0, 1.0, lambda q: (q, 0.25, 1, 0)),
  )  # fmt: skip
  def test_llama_cpp(self, processor, name, low, high, arguments):
    cases = Cases(6)
    strengths = cases.rng.uniform(low, high, size=CASES).astype(np.float32)
    theirs = [llama_cpp.sampled(name, arguments(s), logits) for s, logits in zip(strengths, cases.logits, strict=True)]
    self.assert_same(cases.ours(processor, strengths, reads=False), np.array(theirs))

  @parameterized.parameters(0, 1, 4, 20)
  def test_llama_cpp_penalties(self, window):
    cases = Cases(7 + window, count=CASES // 4)
    last = window or LENGTH
    for processor, first, low, high, arguments in (
      (RepetitionPenalty(window=window), 0, 0.3, 3.0, lambda s: (s, 0.0, 0.0)),
      (FrequencyPenalty(window), 1, 0.1, 2.0, lambda s: (1.0, s, 0.0)),
      (PresencePenalty(window), 1, 0.1, 2.0, lambda s: (1.0, 0.0, s)),
    ):
      strengths = cases.rng.uniform(low, high, size=len(cases)).astype(np.float32)
      theirs = [
        llama_cpp.sampled("penalties", (VOCABULARY, last, *arguments(s)), cases.logits[i], cases.read(i)[first:])
        for i, s in enumerate(strengths)
      ]
      self.assert_same(cases.ours(processor, strengths), np.array(theirs))

  @parameterized.parameters(
    Dry(), Dry(window=8), Dry(base=1.1, allowed=1, window=13), Dry(base=4.0, allowed=3, breakers=(2,)),
    Dry(allowed=1, window=5, breakers=(0, 3)), Dry(base=1.0, allowed=5), Dry(base=500.0, allowed=1),
    Dry(window=LENGTH, breakers=(7,)),
  )  # fmt: skip
  def test_llama_cpp_dry(self, processor):
    cases = Cases(8, count=CASES // 8, tokens=4)
    cases.texts[::2] = np.resize(np.arange(3), (len(cases.texts[::2]), LENGTH))  # every second one is a loop
    strengths = cases.rng.uniform(0.1, 2, size=len(cases)).astype(np.float32)
    theirs = np.array([
      llama_cpp.dry(
        s, processor.base, processor.allowed, processor.window or LENGTH, processor.breakers, cases.logits[i],
        cases.read(i),
      )
      for i, s in enumerate(strengths)
    ])  # fmt: skip
    self.assertFalse(np.array_equal(theirs, cases.logits))
    self.assert_same(cases.ours(processor, strengths), theirs)

  def test_llama_cpp_dry_sees_a_loop_only_where_the_window_holds_it(self):
    """A loop of period p is penalised from a window of p + allowed on, ours and theirs."""
    logits = np.zeros(40, np.float32)
    for period in (3, 10, 13):
      text = np.resize(np.arange(period), LENGTH)
      least = None
      for window in range(1, LENGTH):
        seen = not np.array_equal(llama_cpp.dry(1.0, 1.75, 2, window, (), logits, text), logits)
        least = window if seen and least is None else least
      self.assertEqual(least, period + 2)
    cases = Cases(9, count=1, vocabulary=40)
    cases.lengths[:] = LENGTH
    cases.texts[:] = np.resize(np.arange(10), LENGTH)
    for window, seen in ((11, False), (12, True)):
      self.assertEqual(not np.array_equal(cases.ours(Dry(window=window), [1.0]), cases.logits), seen)


if __name__ == "__main__":
  absltest.main()
