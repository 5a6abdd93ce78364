"""LIGHT: XLA optimises a little, and splits no tiny operation over threads. Most of a test's time is compiling
programs that run once.

Not in benchmarks, and never level 0: with it XLA 0.10.2's CPU compiler puts NaN into sums that are zero.
"""

LIGHT = "--xla_backend_optimization_level=1 --xla_cpu_multi_thread_eigen=false"

import pathlib

ROOT = pathlib.Path(__file__).parents[1]  # of the checkout
