"""What every test runs under; pytest reads it before any test module, so before jax's backend starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the simulated devices are the CPU's

import hypothesis
import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, max_examples=25)
hypothesis.settings.load_profile("deterministic")
