"""The same student in PyTorch, tuned: fused attention and AdamW, logits on the walk alone, a preallocated KV cache.

Shapes: B examples, T positions read, P of them prompt, V vocabulary, D width, H heads, F features of a head.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from experiments.benchmarks.peers import numpy_sampler
from loopjax.models.transformer import Transformer
from loopjax.star_graph.graph import StarGraph

MAX_POSITIONS = 1024


@dataclasses.dataclass(frozen=True)
class Variant:
  """How PyTorch runs it: in `num_processes` of `num_threads` each, with bfloat16 autocast, with torch.compile."""

  num_processes: int
  num_threads: int
  autocast: bool = False
  compiled: bool = False

  def __str__(self) -> str:
    form = "bfloat16 autocast" if self.autocast else "float32"
    return f"{self.num_processes} x {self.num_threads} threads, {form}{', compiled' if self.compiled else ''}"


class Layer(nn.Module):
  """Pre-norm attention with rotary positions and a squared-ReLU MLP."""

  def __init__(self, model: Transformer):
    super().__init__()
    width, hidden = model.width, model.mlp_ratio * model.width
    self.num_heads = model.num_heads
    self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
    self.query_key_value = nn.Linear(width, 3 * width, bias=False)
    self.attention_out = nn.Linear(width, width, bias=False)
    self.mlp_in, self.mlp_out = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

  def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: Any = None, start: int = 0):
    batch, length, width = x.shape
    heads = self.query_key_value(self.attention_norm(x)).view(batch, length, 3, self.num_heads, -1)
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
    if cache is not None:
      cache[0][:, :, start : start + length], cache[1][:, :, start : start + length] = key, value
      key, value = cache[0][:, :, : start + length], cache[1][:, :, : start + length]
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=length > 1)
    x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
    return x + self.mlp_out(F.relu(self.mlp_in(self.mlp_norm(x))).square())


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
  a, b = x.chunk(2, dim=-1)
  return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Student(nn.Module):
  """Prompt, goal and walk as one causal sequence."""

  cos: torch.Tensor
  sin: torch.Tensor

  def __init__(self, task: StarGraph, model: Transformer):
    super().__init__()
    self.first = nn.Embedding(task.vocabulary_size, model.width)
    self.second = nn.Embedding(task.vocabulary_size + 2, model.width)
    self.layers = nn.ModuleList(Layer(model) for _ in range(model.num_layers))
    self.final_norm = nn.RMSNorm(model.width)
    self.head = nn.Linear(model.width, task.vocabulary_size, bias=False)
    half = model.width // model.num_heads // 2
    angle = torch.arange(MAX_POSITIONS)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
    self.register_buffer("cos", torch.cos(angle))
    self.register_buffer("sin", torch.sin(angle))

  def forward(self, tokens: torch.Tensor, first_target: int, caches: Any = None, start: int = 0) -> torch.Tensor:
    """Logits [B, T - first_target, V] of `tokens` [B, T, 2], which stand at positions from `start` on."""
    x = self.first(tokens[..., 0]) + self.second(tokens[..., 1])
    here = slice(start, start + tokens.shape[1])
    for i, layer in enumerate(self.layers):
      x = layer(x, self.cos[here], self.sin[here], None if caches is None else caches[i], start)
    return self.head(self.final_norm(x[:, first_target:]))


class Trainer:
  """Trains one student on its own data pipeline; `pad_to_cut` pads every batch to the longest walk there can be."""

  def __init__(self, task: StarGraph, model: Transformer, rows: int, variant: Variant, pad_to_cut: bool, seed: int):
    torch.set_num_threads(variant.num_threads)
    torch.manual_seed(seed)
    self.task, self.rows, self.variant, self.pad_to_cut = task, rows, variant, pad_to_cut
    self.rng = np.random.default_rng(seed)
    self.student = Student(task, model)
    self.optimizer = torch.optim.AdamW(
      self.student.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    self.loss = torch.compile(self._loss, dynamic=not pad_to_cut) if variant.compiled else self._loss

  def _loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = self.student(tokens, self.task.num_edges + 1)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=numpy_sampler.IGNORED)

  def _batch(self) -> tuple[np.ndarray, np.ndarray]:
    tokens, targets = numpy_sampler.sample_batch(self.task, self.rng, self.rows)
    missing = self.task.max_steps - 1 - targets.shape[1] if self.pad_to_cut else 0
    tokens = np.pad(tokens, ((0, 0), (0, missing), (0, 0)))
    return tokens, np.pad(targets, ((0, 0), (0, missing)), constant_values=numpy_sampler.IGNORED)

  def step(self) -> tuple[int, float]:
    """One step; the positions that it trained on, and its loss."""
    tokens, targets = self._batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=self.variant.autocast):
      loss = self.loss(torch.from_numpy(tokens), torch.from_numpy(targets))
    self.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
    self.optimizer.step()
    return int((targets != numpy_sampler.IGNORED).sum()), float(loss.detach())

  def rate(self, seconds: float) -> float:
    """Positions trained per second, over about `seconds`."""
    began, positions = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
      positions += self.step()[0]
    return positions / (time.perf_counter() - began)


class Generator:
  """Rolls out one walk on each of `num_walks` graphs to the cut, all in step, by a KV cache."""

  def __init__(self, task: StarGraph, model: Transformer, num_walks: int, variant: Variant, seed: int):
    torch.set_num_threads(variant.num_threads)
    torch.manual_seed(seed)
    self.task, self.variant = task, variant
    self.student = Student(task, model).eval()
    self.forward = torch.compile(self.student, dynamic=True) if variant.compiled else self.student
    tokens, _ = numpy_sampler.sample_batch(task, np.random.default_rng(seed), num_walks)
    self.begin = torch.from_numpy(tokens[:, : task.num_edges + 2])  # edges, goal, s
    shape = (num_walks, model.num_heads, task.num_edges + 1 + task.max_steps, model.width // model.num_heads)
    dtype = torch.bfloat16 if variant.autocast else torch.float32
    self.caches = [(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)) for _ in range(model.num_layers)]

  @torch.inference_mode()
  def roll_out(self, temperature: float) -> torch.Tensor:
    """Labels of the walks, [B, W - 1]."""
    labels, tokens, start = [], self.begin, 0
    with torch.autocast("cpu", torch.bfloat16, enabled=self.variant.autocast):
      for _ in range(self.task.max_steps - 1):
        logits = self.forward(tokens, tokens.shape[1] - 1, self.caches, start)[:, 0].float()
        start += tokens.shape[1]
        labels.append(torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1))
        tokens = torch.stack([labels[-1], torch.full_like(labels[-1], self.task.vocabulary_size)], dim=-1)
    return torch.cat(labels, dim=1)

  def rate(self) -> float:
    """Walk positions per second of one rollout of all walks."""
    began = time.perf_counter()
    labels = self.roll_out(1.0)
    return labels.numel() / (time.perf_counter() - began)
