"""Where the checkout is, and how XLA compiles under test."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[1]  # of the checkout
# XLA optimises a little, and does not split tiny operations over threads, because most of a test's time is compilation.
# Its fusion emitters are off, because they take a third of that time.
# Level 0 is not used: with it XLA 0.10.2's CPU compiler puts NaN into sums that are zero.
LIGHT = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false"
# A limit on the CPU's instruction set, as in XLA_FLAGS=--xla_cpu_max_isa=AVX2 pytest, holds for the scripts too.
LIGHT = " ".join([LIGHT, *(flag for flag in os.environ.get("XLA_FLAGS", "").split() if "max_isa" in flag)])
