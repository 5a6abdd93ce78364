"""Parts of the tests of licensed datasets: findings by level, and scripts run as a user runs them."""

import pathlib
import subprocess
from unittest import mock

import numpy as np

from experiments import console
from posynda_jax.data import safe_pickle
from posynda_jax.datasets.mpi_inf_3dhp import tables
from tests import scripts


def run_module(module: str, *flags: str, returncode: int = 0) -> subprocess.CompletedProcess:
  """A finished run of `python -m module *flags`, which ended with `returncode`."""
  (name,) = (name for name, (of_name, _) in console.COMMANDS.items() if of_name == module)
  done = scripts.run(name, *flags)
  assert done.returncode == returncode, done.stdout[-2000:] + done.stderr[-3000:]
  return done


def listed(findings, level: str = "fault") -> list[str]:
  """The findings of a level as text."""
  return [str(finding) for finding in findings if finding.level == level]


def edit(path: pathlib.Path, key: str, change) -> None:
  """Applies `change` to the content of an npz file under `key`."""
  arrays = safe_pickle.load_npz(path)
  change(arrays[key])
  np.savez(path, **arrays)


def short_sequences():
  """A context in which the sequences of MPI-INF-3DHP's tables are 40 to 55 frames long."""
  train = {name: (40 + i, fps) for i, (name, (_, fps)) in enumerate(tables.TRAIN.items())}
  test = {name: (50 + i, 40 + i) for i, name in enumerate(tables.TEST)}
  return mock.patch.multiple(tables, TRAIN=train, TEST=test)
