"""Options for the few programs of tests for which `conftest`'s quick way of compiling is wrong.

`WELL` is what a long run has: for what takes longer to run than to compile, and where the compiler itself is tested.
`ROUND_ALIKE` is for two programs whose results are to be the same, bit for bit or nearly.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

# The option is gone in later versions, which always use them.
_EMITTERS: dict[str, Any] = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}
WELL: dict[str, Any] = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False} | _EMITTERS
jit_well: Any = functools.partial(jax.jit, compiler_options=WELL)
# For what takes seconds to run. With jax 0.10 such a sampler runs about as fast as with `WELL`, and compiles in a third
# of the time.
jit_fast: Any = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})

# Without it, two programs that compute the same round differently: a loss with a term that is 0, and one without it.
ROUND_ALIKE = _EMITTERS
