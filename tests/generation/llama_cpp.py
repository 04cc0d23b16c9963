"""llama.cpp's samplers without a model, through the C functions that the wheel of xllamacpp exports."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

_DRY = "_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"  # breakers as tokens, no vocabulary


class _Token(ctypes.Structure):
  _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class _Tokens(ctypes.Structure):
  _fields_ = (
    ("data", ctypes.POINTER(_Token)),
    ("size", ctypes.c_size_t),
    ("selected", ctypes.c_int64),
    ("sorted", ctypes.c_bool),
  )


class _Vector(ctypes.Structure):
  """std::vector as the GNU library lays it out: where it begins, ends, and where its memory ends."""

  _fields_ = (("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("limit", ctypes.c_void_p))

  @classmethod
  def of(cls, array: ctypes.Array) -> _Vector:
    first = ctypes.addressof(array)
    return cls(first, first + ctypes.sizeof(array), first + ctypes.sizeof(array))


def _load() -> ctypes.CDLL:
  spec = importlib.util.find_spec("xllamacpp")
  (library,) = Path(spec.submodule_search_locations[0]).glob("*.so")
  found = ctypes.CDLL(str(library))
  number, whole, size = ctypes.c_float, ctypes.c_int32, ctypes.c_size_t
  arguments = {
    "min_p": (number, size), "typical": (number, size), "top_n_sigma": (number,), "temp_ext": (number,) * 3,
    "xtc": (number, number, size, ctypes.c_uint32), "penalties": (whole, whole, number, number, number),
  }  # fmt: skip
  for name, kinds in arguments.items():
    function = getattr(found, f"llama_sampler_init_{name}")
    function.argtypes, function.restype = kinds, ctypes.c_void_p
  dry = getattr(found, _DRY)
  dry.argtypes, dry.restype = (number, number, whole, whole, ctypes.POINTER(_Vector)), ctypes.c_void_p
  found.llama_sampler_accept.argtypes = (ctypes.c_void_p, whole)
  found.llama_sampler_apply.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Tokens))
  found.llama_sampler_free.argtypes = (ctypes.c_void_p,)
  return found


_LIBRARY = _load()


def sampled(name: str, arguments: Sequence[float], logits: np.ndarray, tokens: Sequence[int] = ()) -> np.ndarray:
  """The logits [V] after the sampler that `llama_sampler_init_{name}` makes, once it has accepted the tokens."""
  sampler = getattr(_LIBRARY, f"llama_sampler_init_{name}")(*arguments)
  with _freed(sampler):
    return _applied(sampler, logits, tokens)


def dry(
  multiplier: float, base: float, allowed: int, window: int, breakers: Sequence[int], logits: np.ndarray,
  tokens: Sequence[int],
) -> np.ndarray:  # fmt: skip
  """The logits [V] after DRY, whose breakers are single tokens."""
  arrays = [(ctypes.c_int32 * 1)(breaker) for breaker in breakers or (2**30,)]  # of none it complains, each time
  inner = (_Vector * len(arrays))(*map(_Vector.of, arrays))
  sampler = getattr(_LIBRARY, _DRY)(multiplier, base, allowed, window, ctypes.byref(_Vector.of(inner)))
  with _freed(sampler):
    return _applied(sampler, logits, tokens)


@contextlib.contextmanager
def _freed(sampler: int) -> Iterator[None]:
  try:
    yield
  finally:
    _LIBRARY.llama_sampler_free(sampler)


def _applied(sampler: int, logits: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
  for token in tokens:
    _LIBRARY.llama_sampler_accept(sampler, int(token))
  data = (_Token * len(logits))(*(_Token(v, float(logit), 0.0) for v, logit in enumerate(logits)))
  given = _Tokens(data, len(logits), -1, False)
  _LIBRARY.llama_sampler_apply(sampler, ctypes.byref(given))
  after = np.full(len(logits), -np.inf, np.float32)  # what is no longer listed is banned
  for i in range(given.size):
    after[given.data[i].id] = given.data[i].logit
  return after
