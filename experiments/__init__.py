"""The scripts: each turns absl flags into one call of the library and prints the result.

`console` is the installed command `posynda NAME`; `common`, `sampling` and `own_keypoints` hold shared flags. In the
wheel this folder is `posynda_jax.experiments`, so its files import each other relatively. JAX reads the settings below
when it is first imported.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no messages at start-up
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/posynda_jax/compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
# CPUs: the order of operations that needs least memory, a fifth less for an adaptation step.
_SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"
if _SCHEDULER not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{_SCHEDULER}=false {os.environ.get('XLA_FLAGS', '')}"
