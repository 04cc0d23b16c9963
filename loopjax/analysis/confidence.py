"""Confidence inside loops: the largest next-token probability (temperature 1), by repetition of the loop.

A loop is a locked cycle, as `generation.cycles` finds it: one block of nodes, three times or more. Its *onset* is its
first node. Only the first loop of a walk counts, whether the walk leaves it again or not. Where two periods begin at
the same onset the shorter one is taken, so a loop of loops counts by its innermost.

Labels off the graph all appear as node N, so that two of them need not be the same token: they equal nothing here, and
a student that repeats such labels does not count as looping.

Everything is pure and jittable and knows of one student: map it over students with `seeds`.

Shapes: G walks (of one student at one temperature), W nodes of a walk, M repetitions, A repetitions that are asked for,
Q quantiles.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from loopjax.generation.cycles import first_cycle
from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.teacher import PADDING

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


class Loop(NamedTuple):
  """The first loop of a walk, int32 scalars.

  Attributes:
    onset: the index in the walk at which it begins; -1 where there is none.
    period: nodes of one repetition; 0 where there is none.
    repetitions: whole repetitions from the onset on, for as long as it lasts; 0 where there is none.
    length: nodes from the onset to its last one, which may end inside a repetition; 0 where there is none.
  """

  onset: jax.Array
  period: jax.Array
  repetitions: jax.Array
  length: jax.Array


def find_loop(task: StarGraph, walk: jax.Array) -> Loop:
  """The smallest onset o, and the smallest period p there, with walk[i] = walk[i + p] for all i in [o, o + 2p).

  Args:
    task: the task; only its number of nodes N is read.
    walk: [W] nodes, W at least 3; N for a label off the graph; `PADDING` after the end.
  """
  cycle = first_cycle(jnp.where(walk < task.num_nodes, walk, PADDING))
  length = cycle.end - cycle.start
  repetitions = length // jnp.maximum(cycle.period, 1)
  return Loop(jnp.where(cycle.period > 0, cycle.start, -1), cycle.period, repetitions, length)


def confidence_by_repetition(loop: Loop, confidence: jax.Array, max_repetitions: int) -> jax.Array:
  """The mean confidence over the nodes of the loop's repetitions 1..M, [M]; NaN past the last whole one or if no loop.

  s at index 0 is given, not predicted: it has no confidence. Where a loop begins there, its repetitions are counted
  from index 1 (r s r s ... in place of s r s r ...; at most one repetition fewer). Were s merely left out of repetition
  1, that mean alone would lack the move back to s, the doubtful one, and confidence would seem to fall at repetition 2.

  Args:
    loop: from `find_loop`.
    confidence: [W], the probability that belongs to the node at each index.
    max_repetitions: M, static.
  """
  period = jnp.maximum(loop.period, 1)
  first = jnp.maximum(loop.onset, 1)
  reached = (loop.onset + loop.length - first) // period  # negative if there is no loop
  repetition = (jnp.arange(confidence.shape[0]) - first) // period
  belongs = repetition[None] == jnp.arange(max_repetitions)[:, None]
  total = jnp.sum(jnp.where(belongs, confidence[None], 0), axis=1)
  return jnp.where(jnp.arange(max_repetitions) < reached, total / period, jnp.nan)


def rises_monotonically(by_repetition: jax.Array, tolerance: float = 1e-6) -> jax.Array:
  """1 if confidence never falls from one observed repetition to the next, else 0; NaN if fewer than two are observed.

  Args:
    by_repetition: [M], from `confidence_by_repetition`. A constant one counts as rising.
    tolerance: a fall of up to this much between neighbours is rounding.
  """
  change = jnp.diff(by_repetition)  # NaN compares as no fall
  rises = jnp.all(~(change < -tolerance)).astype(jnp.float32)
  return jnp.where(jnp.any(~jnp.isnan(change)), rises, jnp.nan)


class ConfidenceSummary(NamedTuple):
  """Loops and their confidence over the walks of one student. What no loop tells is NaN.

  A loop reaches a repetition if `confidence_by_repetition` has it. The loops that reach repetition m are fewer, and
  others, than those that reach repetition 1: `by_repetition` may rise only because the doubtful loops end early. The
  cohort, the same loops at every repetition, is free of that (not of having been chosen for its length).

  Attributes:
    num_loops: walks that loop.
    loop_share: their share of the G walks.
    onset: mean over loops, nodes.
    period: mean over loops, nodes.
    by_repetition: [M], mean confidence over the loops that reach each repetition.
    num_reaching: [M], how many do.
    quantiles: [A, Q], at levels `QUANTILES`, of the confidence at each repetition asked for, over loops that reach it.
    share_monotone: of the loops, those whose confidence never falls over the first M repetitions.
    cohort_by_repetition: [M], mean confidence over the cohort: loops that reach the last repetition asked for. NaN
      after it, where the cohort would shrink.
    cohort_size: loops in it.
    cohort_share_monotone: of the cohort, those whose confidence never falls up to the last repetition asked for: all
      had the same number of occasions to fall.
  """

  num_loops: jax.Array
  loop_share: jax.Array
  onset: jax.Array
  period: jax.Array
  by_repetition: jax.Array
  num_reaching: jax.Array
  quantiles: jax.Array
  share_monotone: jax.Array
  cohort_by_repetition: jax.Array
  cohort_size: jax.Array
  cohort_share_monotone: jax.Array


def summarise(
  task: StarGraph, walks: jax.Array, confidence: jax.Array, *, max_repetitions: int, at: Sequence[int] = (1, 2, 5, 10),
  tolerance: float = 1e-6,
) -> ConfidenceSummary:  # fmt: skip
  """Loops and their confidence over walks of one student.

  Args:
    task: the task.
    walks: [G, W] nodes, as in `find_loop`.
    confidence: [G, W], as `rollouts.Rollout` gives it.
    max_repetitions: M, static.
    at: A repetitions, from 1, at which quantiles are taken; the largest defines the cohort.
    tolerance: of `rises_monotonically`.

  Raises:
    ValueError: `at` is empty or not within 1..M.
  """
  require(len(at) > 0 and min(at) >= 1 and max(at) <= max_repetitions, "at", at, f"within 1..{max_repetitions}")
  loops = jax.vmap(functools.partial(find_loop, task))(walks)
  each = jax.vmap(lambda loop, values: confidence_by_repetition(loop, values, max_repetitions))(loops, confidence)
  rises = jax.vmap(lambda values: rises_monotonically(values, tolerance))
  is_loop = loops.period > 0
  in_cohort = ~jnp.isnan(each[:, max(at) - 1])
  until_last = jnp.arange(max_repetitions) < max(at)
  cohort = jnp.where(in_cohort[:, None] & until_last[None], each, jnp.nan)
  return ConfidenceSummary(
    num_loops=jnp.sum(is_loop),
    loop_share=jnp.mean(is_loop),
    onset=jnp.nanmean(jnp.where(is_loop, loops.onset, jnp.nan)),
    period=jnp.nanmean(jnp.where(is_loop, loops.period, jnp.nan)),
    by_repetition=jnp.nanmean(each, axis=0),
    num_reaching=jnp.sum(~jnp.isnan(each), axis=0),
    quantiles=jnp.nanquantile(each[:, jnp.array(at) - 1], jnp.array(QUANTILES), axis=0).T,
    share_monotone=jnp.nanmean(rises(each)),
    cohort_by_repetition=jnp.nanmean(cohort, axis=0),
    cohort_size=jnp.sum(in_cohort),
    cohort_share_monotone=jnp.nanmean(rises(cohort)),
  )
