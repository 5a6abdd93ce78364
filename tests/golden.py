"""Reference arrays for the parity tests. A test whose file is absent is skipped with the reason."""

import json
import os
import pathlib
import zlib

import numpy as np
import pytest

from tests import ROOT

FOLDER = pathlib.Path(os.environ.get("POSYNDA_GOLDEN", ROOT.parent / "shared" / "golden"))


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
  """The reference's weights by PyTorch name: the stored ones, or those that the files' rule generates."""
  if stored := part(arrays, "param/"):
    return stored
  shapes = zip(arrays["param_names"], arrays["param_shapes"], strict=True)
  return {str(name): by_rule(str(name), tuple(int(n) for n in shape if n)) for name, shape in shapes}


def part(arrays: dict, prefix: str) -> dict:
  """The arrays whose name starts with `prefix`, without it."""
  return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def cases(arrays: dict, member: str) -> list[str]:
  """Names of the groups that hold `member`, as `a` in `a/member`. Fails where there is none."""
  found = sorted(name.removesuffix(f"/{member}") for name in arrays if name.endswith(f"/{member}"))
  assert found, f"no case holds {member}"
  return found


def by_rule(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Weights generated from their name, as the golden README describes."""
  generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
  value = generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
  return 1 + value if name.endswith(".weight") and len(shape) == 1 else value
