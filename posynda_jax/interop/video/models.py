"""BlazePose's models in a wheel of MediaPipe or a folder. The wheel is not installed and none of its code runs."""

import hashlib
import pathlib
import zipfile

from posynda_jax.data import safe_pickle
from posynda_jax.interop.video import blazepose

DIGESTS = {  # SHA-256: the first of mediapipe 0.10.21, the others of npm's @mediapipe/pose 0.5.1675469404
    "pose_detection.tflite": "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    "pose_landmark_lite.tflite": "f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61",
    "pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
    "pose_landmark_heavy.tflite": "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
}
MAX_BYTES = 256 * 2**20  # the heaviest model has 28 MB
NAMES = (blazepose.DETECTOR, *blazepose.LANDMARKS.values())
NOTICE = """BlazePose models of MediaPipe (https://github.com/google-ai-edge/mediapipe), Copyright The MediaPipe
Authors, licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0. Unchanged.
"""


def read_models(*given: pathlib.Path) -> dict[str, bytes]:
  """{file name: bytes} of the models in wheels and folders, which together hold the detector and at least one model of
  landmarks. Raises FileNotFoundError, and ValueError where they do not.
  """
  found = {}
  for source in given:
    found |= _read_source(source)
  if blazepose.DETECTOR not in found or len(found) < 2:
    sources, has = ", ".join(map(str, given)), ", ".join(found) or "no model"
    raise ValueError(f"{sources} has {has}, expected {blazepose.DETECTOR} and pose_landmark_*.tflite")
  return found


def _read_source(source: pathlib.Path) -> dict[str, bytes]:
  if not source.exists():
    raise FileNotFoundError(f"{source} does not exist: give a wheel or a folder")
  if source.is_dir():
    return {path.name: path.read_bytes() for path in sorted(source.rglob("*.tflite")) if path.name in NAMES}
  try:
    with zipfile.ZipFile(source) as archive:
      members = {pathlib.PurePosixPath(info.filename).name: info for info in archive.infolist()}
      chosen = {name: members[name] for name in NAMES if name in members}
      if large := [name for name, info in chosen.items() if info.file_size > MAX_BYTES]:
        raise ValueError(f"{source} unpacks {large[0]} to more than {MAX_BYTES:,} bytes: it is refused")
      return {name: archive.read(info) for name, info in chosen.items()}
  except safe_pickle.ZIP_ERRORS as error:
    raise ValueError(f"{source} is no wheel ({error}): download it again") from error


def check(name: str, raw: bytes) -> None:
  """Raises ValueError for a model whose SHA-256 is not the listed one."""
  digest = hashlib.sha256(raw).hexdigest()
  if DIGESTS[name] != digest:
    raise ValueError(f"{name} has SHA-256 {digest}, expected {DIGESTS[name]}: download its source again")
