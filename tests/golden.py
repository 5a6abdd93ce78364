"""Reads the reference arrays that the parity tests compare with; absent files skip the test and say why."""

import json
import os
import pathlib
import zlib

import numpy as np
import pytest

FOLDER = pathlib.Path(os.environ.get("POSYNDA_GOLDEN", pathlib.Path(__file__).parents[2] / "shared" / "golden"))


def load(name: str) -> dict:
  """The arrays of `name`.npz, with `config` parsed."""
  path = FOLDER / f"{name}.npz"
  if not path.exists():
    pytest.skip(f"reference arrays not found at {path}: set POSYNDA_GOLDEN to the folder that holds {name}.npz")
  arrays = dict(np.load(path))
  if "config" in arrays:
    arrays["config"] = json.loads(str(arrays["config"]))
  return arrays


def params(arrays: dict) -> dict[str, np.ndarray]:
  """The reference's weights by their PyTorch names: stored, or made by the files' rule where they are not."""
  if any(key.startswith("param/") for key in arrays):
    return {key.removeprefix("param/"): value for key, value in arrays.items() if key.startswith("param/")}
  shapes = zip(arrays["param_names"], arrays["param_shapes"], strict=True)
  return {str(name): by_rule(str(name), tuple(int(n) for n in shape if n)) for name, shape in shapes}


def by_rule(name: str, shape: tuple[int, ...]) -> np.ndarray:
  generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
  value = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
  return 1 + value if name.endswith(".weight") and len(shape) == 1 else value
