"""loopjax: a laboratory for why reasoning models loop, in JAX and Flax. See README.md."""
