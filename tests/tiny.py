"""The base that jobs, scripts and lifters share: `scene.tiny_model` with the config that a pretraining gives it."""

import dataclasses
import pathlib

from posynda_jax.adaptation import base_job, bases
from posynda_jax.runtime import checkpoint, files, runs
from tests import scene
from tests.adaptation.batches import BODY, FRAMES

PLAN = dataclasses.replace(
    base_job.get("smoke"),
    model={"num_frames": FRAMES, "width": 16, "depth": 1, "num_heads": 2, "drop_path": 0.0, "dtype": "float32"},
)
CONFIG = base_job.describe(PLAN) | {"body": BODY.round(4).tolist()}


def base(inputs: int = 2, **config) -> bases.Base:
  """The base in memory, of this many input channels and with other settings."""
  model, params = scene.tiny_model(FRAMES, inputs)
  config = CONFIG | {"model": CONFIG["model"] | {"inputs": inputs}} | config
  return bases.Base(model, params, checkpoint.digest(params), config)


def save_run(folder: pathlib.Path) -> pathlib.Path:
  """The base as the run folder that a pretraining leaves."""
  runs.Run(folder, base_job.describe(PLAN))
  checkpoint.save_tree(folder / "base", scene.tiny_model(FRAMES)[1])
  files.write_json(folder / "metrics.json", {"body": CONFIG["body"]})
  return folder
