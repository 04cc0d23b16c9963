"""What every test runs under; pytest reads it before any test module, so before jax's backend starts."""

import gc
import os

# Compiling took three quarters of the time. Programs are compiled here as `devices.compiler_options(brief=True)` has
# it, which takes half as long or less. `JAX_DISABLE_MOST_OPTIMIZATIONS=0 XLA_FLAGS= pytest` compiles them as a long run
# does. Processes that tests start inherit all this.
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the simulated devices are the CPU's
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Nobody reads in a compiled program which line of Python an operation comes from; to write it took a twentieth.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import hypothesis
import jax

if jax.__version_info__ < (0, 11):  # later versions do not have all options, and a process ends that is given another
  # Read when the backend starts. A program is compiled in one piece: all cores are busy with tests anyway.
  os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")

gc.set_threshold(200_000, 10, 10)  # tracing makes so many objects that to look for garbage took another twentieth
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Each takes half a minute or so. They are begun first, so that no core waits for one of them at the end.
LONGEST = (
  "experiments/reproduce_test.py", "experiments/observations_test.py", "training/runner_test.py",
  "remedies/groups_test.py", "experiments/claims_in_worlds_test.py", "docs_test.py", "training/training_test.py",
  "star_graph/students_test.py", "star_graph/rollouts_test.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
  """Files in the order of `LONGEST`, then the others as they were; `--no-loadscope-reorder` keeps this order."""
  items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if item.path.match(name)), len(LONGEST)))


def pytest_collection_finish():
  """What has been imported stays for good: the search for garbage leaves it out from here on."""
  gc.collect()
  gc.freeze()


hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, max_examples=25)
hypothesis.settings.load_profile("deterministic")
