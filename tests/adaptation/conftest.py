"""The tiny base in a run folder, and the embedded data, for jobs that run in the tests' own process."""

import pathlib

import pytest

from posynda_jax.adaptation import sources
from tests import tiny


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> pathlib.Path:
  """The run folder of the tiny base."""
  return tiny.save_run(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def folders(data) -> sources.Folders:
  """Where the embedded data is."""
  return sources.Folders(data.partition("=")[2])
