"""Scripts under test, each in a process of its own that is forked from one that has imported the libraries.

A start from nothing would spend two seconds of CPU time on imports. `tests/runtime` and `tests/test_package.py` do it.
"""

import atexit
import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile

from tests import LIGHT, ROOT

SMOKE = f"--flagfile={ROOT}/experiments/presets/smoke.flags"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["experiments.common", "posynda_jax.adaptation.sweep_job", "posynda_jax.lifter"])


def run(script: str, *flags: str, env: dict | None = None, seconds: int = 600) -> subprocess.CompletedProcess:
  """The finished process of `posynda SCRIPT FLAGS` on one CPU device, with its output."""
  environment = {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu", **(env or {})}
  with tempfile.TemporaryDirectory() as folder:
    logs = [f"{folder}/stdout", f"{folder}/stderr"]
    process = CONTEXT.Process(target=main, args=([script, *map(str, flags)], environment, logs))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
      process.kill()
      raise subprocess.TimeoutExpired(script, seconds)
    texts = [open(log).read() for log in logs]
  return subprocess.CompletedProcess([script, *flags], process.exitcode, *texts)


def main(arguments: list[str], environment: dict, logs: list[str]) -> None:
  """Runs `posynda ARGUMENTS` in this forked process, with standard output and error in the files `logs`."""
  for descriptor, log in enumerate(logs, 1):
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), descriptor)
  os.chdir(ROOT)
  os.environ.update(environment)
  import experiments
  from experiments import console

  importlib.reload(experiments)  # it adds to XLA_FLAGS
  sys.argv = ["posynda", *arguments]
  try:
    console.main()
  finally:
    atexit._run_exitfuncs()  # multiprocessing skips them, and tensorboardX closes its files in one


def run_well(script: str, *flags: str, seconds: int = 600) -> str:
  """Standard output of a script that ends well."""
  done = run(script, *flags, seconds=seconds)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def error_of(script: str, *flags: str, env: dict | None = None) -> str:
  """The one line that a script ends with after an error of the user."""
  done = run(script, *flags, env=env)
  assert done.returncode == 1 and "Traceback" not in done.stderr, (done.returncode, done.stderr[-3000:])
  line = done.stderr.strip().splitlines()[-1]
  assert line.startswith("error: ")
  return line
