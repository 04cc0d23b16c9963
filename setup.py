"""Metadata of the package; the tools' settings are in pyproject.toml."""

import setuptools

setuptools.setup(
  name="loopjax",
  version="0.1.0",
  description="A laboratory for why reasoning models loop: train hundreds of small transformers at once, in JAX",
  license="Apache-2.0",
  license_files=["LICENSE"],
  packages=setuptools.find_packages(include=["loopjax", "loopjax.*", "experiments", "experiments.*"]),
  package_data={
    "loopjax.plotting": ["__init__.pyi"],
    "loopjax.report": ["template.html", "style.css", "viewer.js", "sorting.js"],
    "loopjax.traces": ["page.html", "page.css", "page.js", "paper.json"],
    "experiments.published": ["*.csv"],
  },
  python_requires=">=3.11",
  install_requires=[
    "absl-py>=2.1,<3",
    "chex>=0.1.90,<0.2",
    "flax>=0.12,<0.13",
    "jax>=0.10,<0.13",
    "jaxlib>=0.10,<0.13",
    "lazy_loader>=0.4,<1",
    "matplotlib>=3.9,<4",
    "numpy>=2.0,<3",
    "optax>=0.2.5,<0.3",
    "orbax-checkpoint>=0.12,<0.13",
    "pandas>=2.2,<4",
    "pyarrow>=18,<30",
    "regex>=2024.11.6",
    "scipy>=1.14,<2",
    "seaborn>=0.13.2,<0.14",
    "tqdm>=4.66,<5",
  ],
  entry_points={"console_scripts": ["loopjax-traces = loopjax.traces.main:main"]},
  extras_require={
    "dev": [
      "hypothesis>=6.100,<7",
      "mypy>=2.4,<3",
      "openai>=2,<4",
      "pytest>=9,<10",
      "pytest-xdist>=3.6,<4",
      "ruff>=0.17,<0.18",
      "tensorboard>=2.19,<3",
      # Peers that processors are held against.
      "torch>=2.5,<2.14",
      "transformers>=5.20,<6",
      "xllamacpp==2026.10.11549",  # its C functions change from version to version
    ],
    "bench": ["torch>=2.5,<3"],
    "generate": ["openai>=2,<4"],  # to make traces with a server
    "inspect": ["inspect_ai>=0.3.206,<0.4"],  # to read its .eval logs
    "cluster": ["ray>=2.40,<3"],
    "tensorboard": ["tensorboard>=2.19,<3"],
    "wandb": ["wandb>=0.20,<1"],
    "tokenizers": ["tokenizers>=0.20,<1"],  # to take text by the tokens of a tokenizer's file
    "colab": ["ipykernel>=6.29,<8", "nbclient>=0.10,<1", "nbmake>=1.5,<2"],  # to execute the notebooks outside of Colab
  },
  classifiers=[
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3",
    "Programming Language :: Python :: 3.11",
    "Programming Language :: Python :: 3.13",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
)
