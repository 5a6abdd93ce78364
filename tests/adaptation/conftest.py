"""A base with random weights in a run folder, and the embedded data, for jobs that run in the tests' own process."""

import dataclasses
import pathlib

import pytest

from posynda_jax.adaptation import base_job, sources
from posynda_jax.runtime import checkpoint, files, runs
from tests import scene
from tests.adaptation.batches import BODY, FRAMES

PLAN = dataclasses.replace(
    base_job.get("smoke"),
    model={"num_frames": FRAMES, "width": 16, "depth": 1, "num_heads": 2, "drop_path": 0.0, "dtype": "float32"},
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> pathlib.Path:
  """The run folder of `scene.tiny_model`, as a pretraining leaves it."""
  folder = tmp_path_factory.mktemp("base") / "tiny"
  runs.Run(folder, base_job.describe(PLAN))
  checkpoint.save_tree(folder / "base", scene.tiny_model(FRAMES)[1])
  files.write_json(folder / "metrics.json", {"body": BODY.round(4).tolist()})
  return folder


@pytest.fixture(scope="session")
def folders(data) -> sources.Folders:
  """Where the embedded data is."""
  return sources.Folders(data.partition("=")[2])
