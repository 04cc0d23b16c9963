"""Proposition 1 (arXiv 2512.12895): the maximum-likelihood student that cannot tell the right action from look-alikes.

What temperature does to probabilities, here and in the rest of the theory, is `temper`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from loopjax.runtime.config import require

_TIE = 1e-9  # log-probabilities closer than this tie at temperature 0


def check_temperature(temperature: float) -> None:
  """Raises `ValueError` where `temperature` is negative or not finite."""
  require(0 <= temperature < np.inf, "temperature", temperature, "finite and at least 0")


def temper(each: np.ndarray, count: np.ndarray, temperature: float) -> np.ndarray:
  """Probabilities raised to 1/T and renormalised; T = 0 splits 1 evenly over the argmax.

  Args:
    each: [..., K] the probability of one action of each kind, up to a factor.
    count: [..., K] how many actions there are of each kind; 0 takes the kind out.
    temperature: T.

  Returns:
    [..., K] the probability of one action of each kind.
  """
  possible = (each > 0) & (count > 0)
  log_each = np.where(possible, np.log(np.where(possible, each, 1)), -np.inf)
  below_top = log_each - log_each.max(axis=-1, keepdims=True)
  weight = np.exp(below_top / temperature) if temperature > 0 else (below_top > -_TIE).astype(float)
  return weight / np.sum(weight * count, axis=-1, keepdims=True)


class Solution(NamedTuple):
  """A student's probability of the cyclic action and of each child, of the shape of the arguments."""

  cycle: np.ndarray
  child: np.ndarray


def _check_proposition(cycle_prob: np.ndarray, num_children: np.ndarray) -> None:
  require(bool(np.all((cycle_prob >= 0) & (cycle_prob <= 1))), "cycle_prob", cycle_prob, "in [0, 1]")
  whole = num_children == np.round(num_children)
  require(bool(np.all(whole & (num_children >= 1))), "num_children", num_children, "a whole number, at least 1")


def proposition_one(cycle_prob: ArrayLike, num_children: ArrayLike, temperature: float = 1.0) -> Solution:
  """The maximum-likelihood student of Proposition 1 (arXiv 2512.12895), sampled at temperature T.

  The teacher takes the cyclic action with probability p, else the right one of n actions the student cannot tell apart.
  The student gives p to the cycle and (1 - p)/n to each; then both are raised to 1/T and renormalised.

  Args:
    cycle_prob: p in [0, 1], a number or an array.
    num_children: n >= 1, a number or an array; broadcast against `cycle_prob`.
    temperature: T >= 0; 0 is the argmax, ties split evenly.

  Raises:
    ValueError: an argument is out of its range.
  """
  p, n = np.broadcast_arrays(np.asarray(cycle_prob, float), np.asarray(num_children, float))
  _check_proposition(p, n)
  check_temperature(temperature)
  tempered = temper(np.stack([p, (1 - p) / n], axis=-1), np.stack([np.ones_like(n), n], axis=-1), temperature)
  return Solution(tempered[..., 0], tempered[..., 1])


def proposition_threshold(num_children: ArrayLike) -> np.ndarray:
  """The cycle probability above which the cycle is the argmax: 1/(n + 1). `ValueError` unless n is whole and >= 1."""
  n = np.asarray(num_children, float)
  _check_proposition(np.zeros(()), n)
  return 1 / (n + 1)


def argmax_phase(cycle_prob: ArrayLike, num_children: ArrayLike) -> np.ndarray:
  """What greedy decoding of the solution does: `cycle`, `child` or, on the line p = 1/(n + 1), `tie`.

  Arguments and errors are those of `proposition_one`.
  """
  greedy = proposition_one(cycle_prob, num_children, temperature=0.0)
  return np.where(greedy.child == 0, "cycle", np.where(greedy.cycle == 0, "child", "tie"))
