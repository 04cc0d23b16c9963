"""Programs compiled as those of a long run, in the few tests where `conftest`'s quick way is wrong.

That is where a program takes longer to run than to compile, and where the compiler itself is what is tested.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

WELL: dict[str, Any] = {
  "xla_backend_optimization_level": 3,
  "xla_llvm_disable_expensive_passes": False,
  "xla_cpu_use_fusion_emitters": True,
}
jit_well: Any = functools.partial(jax.jit, compiler_options=WELL)
