"""Parts of the tests of licensed datasets: a hostile pickle, findings by level, and scripts run as a user runs them."""

import os
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np

from posynda_jax.data import safe_pickle
from posynda_jax.datasets.mpi_inf_3dhp import tables
from tests import LIGHT, ROOT


class Payload:
  """A pickle that makes a folder when Python's own unpickler loads it."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


def run(*command: str, returncode: int = 0) -> subprocess.CompletedProcess:
  """A finished run of `python *command`, which ended with `returncode`."""
  environment = os.environ | {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
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
