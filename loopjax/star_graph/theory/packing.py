"""What the end of a packed stream does to the positions that a student is trained on, and the weights that undo it.

A stream of L positions holds walk after walk, and its end cuts the last one. So late positions of walks are shown too
rarely. Position j of a walk is its node of index j, one that predicts a next node. Where walks begin is a renewal
process: the walks before say nothing about the length of the one that begins. So the number of positions j in a stream
has the expectation

  P(a walk has more than j + 1 nodes) * M(L - 1 - g - j),

where g is 1 if a walk's first entry is its goal, 0 if that is its s, and M(t) is the expected number of walks that
begin at the offsets 0..t. The weight 1 / M (Horvitz and Thompson, 1952) leaves the first factor, which is all that
counts where no stream ends.

Shapes: L positions of a stream, W nodes of the longest walk.
"""

from __future__ import annotations

import numpy as np

from loopjax.runtime.config import require
from loopjax.star_graph.graph import StarGraph
from loopjax.star_graph.theory.markov_chain import walk_lengths


def _expected_begins(entries: np.ndarray, length: int) -> np.ndarray:
  """M(t) for t = 0..`length` - 1, given the probabilities `entries[m]` that a walk takes m positions of a stream."""
  begins = np.zeros(length)
  begins[0] = 1
  for offset in range(1, length):
    longest = min(offset, len(entries) - 1)
    begins[offset] = entries[1 : longest + 1] @ begins[offset - longest : offset][::-1]
  return np.cumsum(begins)


def position_weights(task: StarGraph, length: int) -> np.ndarray:
  """The loss weights of a walk's positions 0..W - 2 in packed streams, [W - 1], W = max_steps.

  With them the histogram of trained positions is that of walks that no stream's end cuts. The expected summed weight of
  a stream is its expected number of trained positions.

  Args:
    task: the task; injected loops count with their share.
    length: L, the positions of a stream.

  Raises:
    ValueError: the longest walk does not fit into a stream.
  """
  goal_entries = int(not task.goal_hidden)
  longest = task.max_steps - 1 + goal_entries
  require(length >= longest, "length", length, f"at least {longest}, the positions of the longest walk")
  lengths = walk_lengths(task)
  entries = np.append(np.zeros(goal_entries), lengths[1:])  # a walk of m nodes takes m - 1 positions, and its goal
  begins = _expected_begins(entries, length)[length - longest : length - goal_entries][::-1]
  shown = 1 - np.cumsum(lengths)[1:-1]  # P(more than j + 1 nodes)
  return (shown @ begins) / shown.sum() / begins
