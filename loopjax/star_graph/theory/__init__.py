"""Exact theory: Proposition 1, the teacher as a Markov chain, theoretical learners, and what follows from them.

Everything here is float64 on the host. Nothing is shared with `teacher`: sampler and theory check each other.
"""

from loopjax.star_graph.theory.bayes import SampledStatistics, bayes_statistics, sample_bayes_walks
from loopjax.star_graph.theory.loop_posterior import loop_posterior, loop_posterior_statistics
from loopjax.star_graph.theory.losses import memoryless_loss, teacher_loss
from loopjax.star_graph.theory.markov_chain import (
  MarkovChain,
  WalkStatistics,
  markov_chain,
  memoryless_statistics,
  teacher_statistics,
  walk_lengths,
)
from loopjax.star_graph.theory.packing import position_weights
from loopjax.star_graph.theory.persistence import teacher_persistence, teacher_persistence_by_visit
from loopjax.star_graph.theory.policies import Policy, State
from loopjax.star_graph.theory.proposition import Solution, argmax_phase, proposition_one, proposition_threshold

__all__ = [
  "MarkovChain",
  "Policy",
  "SampledStatistics",
  "Solution",
  "State",
  "WalkStatistics",
  "argmax_phase",
  "bayes_statistics",
  "loop_posterior",
  "loop_posterior_statistics",
  "markov_chain",
  "memoryless_loss",
  "memoryless_statistics",
  "position_weights",
  "proposition_one",
  "proposition_threshold",
  "sample_bayes_walks",
  "teacher_loss",
  "teacher_persistence",
  "teacher_persistence_by_visit",
  "teacher_statistics",
  "walk_lengths",
]
