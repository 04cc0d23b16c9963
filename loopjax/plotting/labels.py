"""What a panel says of each measure."""

from __future__ import annotations

from typing import NamedTuple

BETWEEN_0_AND_1 = (0.0, 1.0)
P_LABEL = "teacher's probability p of s at r"


class Label(NamedTuple):
  """What a panel says of a measure.

  Attributes:
    title: the panel's.
    unit: the vertical axis's.
    limits: of that axis; None: from 0 to the highest value.
    least_span: where given, the axis holds the values and is at least this high, wherever 0 is.
  """

  title: str
  unit: str
  limits: tuple[float, float] | None = None
  least_span: float | None = None


LABELS = {
  "reached": Label("Goal reached (accuracy)", "share of walks", BETWEEN_0_AND_1),
  "broken": Label("Broken by an invalid move", "share of walks", BETWEEN_0_AND_1),
  "cut": Label("Cut", "share of walks", BETWEEN_0_AND_1),
  "accuracy_ignoring_validity": Label("Accuracy, invalid moves allowed", "share of walks", BETWEEN_0_AND_1),
  "response_length": Label("Response length", "nodes"),
  "successful_length": Label("Length of successful walks", "nodes"),
  "length_ratio": Label("Response length", "times the exact teacher's"),
  "successful_length_ratio": Label("Length of successful walks", "times the exact teacher's"),
  "returns": Label("Returns to s", "per walk"),
  "root_loops": Label("Root loops (s-r-s)", "windows per walk"),
  "root_loop_share": Label("Root loops (s-r-s)", "share of nodes", BETWEEN_0_AND_1),
  "locked_cycle_share": Label("Locked cycles", "share of nodes in locked cycles", BETWEEN_0_AND_1),
  "excess_length": Label("Excess length", "length over the exact teacher's"),
  "root_kl": Label("Error at r", "nats from the teacher at r"),
  "root_entropy": Label("Entropy of the first choice", "entropy of the first choice at r, nats"),
  "invalid_moves": Label("Invalid moves", "moves per walk"),
  "distinct_children": Label("Distinct children", "children per walk"),
  "revisits": Label("Revisits", "entries per walk"),
  "cycle_probability": Label("Cycle at visit 1", "probability of s at r"),
  "largest_child_probability": Label("Largest child", "probability at r", BETWEEN_0_AND_1),
  "goal_child_probability": Label("Goal's child", "probability at r", BETWEEN_0_AND_1),
  "risk_aversion_ratio": Label("Risk-aversion ratio", "cycle / largest child"),
  "child_entropy": Label("Entropy over children", "share of log n", least_span=0.1),
  "invalid_mass": Label("Invalid mass", "probability at r"),
  "kl_from_solution": Label("KL(solution || student)", "nats"),
  "total_variation": Label("Distance from the solution", "total variation"),
  "cycle_is_argmax": Label("Cycle is the argmax", "share of prompts", BETWEEN_0_AND_1),
  "persistence": Label("Top-child persistence", "share of pairs of visits", BETWEEN_0_AND_1),
  "correlation": Label("Error correlation", "rho(1), own walk"),
  "loss": Label("Training loss", "nats per position"),
  "gradient_norm": Label("Gradient norm", "before clipping"),
}
