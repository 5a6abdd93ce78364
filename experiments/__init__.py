"""The scripts. JAX reads these settings when it is first imported, which a script may do before it imports `common`."""

import os

# Compiled programs are kept between runs, and start-up chatter is not.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/posynda_jax/compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1")
# On a CPU: the order of operations that needs least memory, a fifth less for an adaptation step.
_SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"
if _SCHEDULER not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{_SCHEDULER}=false {os.environ.get('XLA_FLAGS', '')}"
