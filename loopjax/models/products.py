"""Matrix products with operands in a chosen type, accumulated in float32, in the backward pass as well."""

from __future__ import annotations

import functools
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp


@functools.cache
def cpu_multiplies_bfloat16() -> bool:
  """Whether this machine's CPU multiplies bfloat16 by itself, by AMX or AVX-512."""
  cpu_info = pathlib.Path("/proc/cpuinfo")
  return cpu_info.exists() and re.search("amx_bf16|avx512_bf16", cpu_info.read_text()) is not None


def product_without_gradient(subscripts: str, dtype: Any, x: jax.Array, y: jax.Array) -> jax.Array:
  """einsum(subscripts, x, y) with operands in `dtype`, accumulated in float32; to build custom gradients from."""
  x, y = x.astype(dtype), y.astype(dtype)

  def widened(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, x.astype(jnp.float32), y.astype(jnp.float32))

  def narrow(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)

  if dtype == jnp.float32 or cpu_multiplies_bfloat16():
    return narrow(x, y)
  # XLA cannot run every bfloat16 product on a CPU without units for it; the same numbers then go through float32.
  return jax.lax.platform_dependent(x, y, cpu=widened, default=narrow)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def product(subscripts: str, dtype: Any, x: jax.Array, y: jax.Array) -> jax.Array:
  """einsum(subscripts, x, y) with operands in `dtype`, accumulated in float32, in the backward pass as well.

  Autodiff alone would multiply the float32 cotangent by a bfloat16 operand, off the fast matrix units. Every index must
  stand in two of the three subscripts. For the backward pass `x` is kept in `dtype`, and `y`, a parameter, as it is: so
  a scan over layers has no copy of it to keep.
  """
  return product_without_gradient(subscripts, dtype, x, y)


def _forward(subscripts: str, dtype: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  x = x.astype(dtype)
  return product_without_gradient(subscripts, dtype, x, y), (x, y)


def _backward(
  subscripts: str, dtype: Any, residuals: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
  x, y = residuals
  of_x, of_y, of_result = re.split(",|->", subscripts)
  to_x = product_without_gradient(f"{of_result},{of_y}->{of_x}", dtype, cotangent, y)
  return to_x, product_without_gradient(f"{of_x},{of_result}->{of_y}", dtype, x, cotangent)


product.defvjp(_forward, _backward)
