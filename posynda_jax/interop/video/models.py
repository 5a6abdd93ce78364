"""BlazePose's models in a wheel of MediaPipe or a folder. The wheel is not installed and none of its code runs."""

import hashlib
import pathlib
import zipfile

from posynda_jax.data import safe_pickle
from posynda_jax.interop.video import blazepose

DIGESTS = {  # SHA-256 of the files of mediapipe 0.10.21
    "pose_detection.tflite": "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    "pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
MAX_BYTES = 256 * 2**20  # the heaviest model has 28 MB
NAMES = (blazepose.DETECTOR, *blazepose.LANDMARKS.values())
NOTICE = """BlazePose models of MediaPipe (https://github.com/google-ai-edge/mediapipe), Copyright The MediaPipe
Authors, licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0. Unchanged.
"""


def read_models(source: pathlib.Path) -> dict[str, bytes]:
  """{file name: bytes} of the models in a wheel or folder. Raises FileNotFoundError, and ValueError for a source
  without them.
  """
  if not source.exists():
    raise FileNotFoundError(f"{source} does not exist: give a wheel or a folder")
  if source.is_dir():
    found = {path.name: path.read_bytes() for path in sorted(source.rglob("*.tflite")) if path.name in NAMES}
  else:
    try:
      with zipfile.ZipFile(source) as archive:
        members = {pathlib.PurePosixPath(info.filename).name: info for info in archive.infolist()}
        chosen = {name: members[name] for name in NAMES if name in members}
        if large := [name for name, info in chosen.items() if info.file_size > MAX_BYTES]:
          raise ValueError(f"{source} unpacks {large[0]} to more than {MAX_BYTES:,} bytes: it is refused")
        found = {name: archive.read(info) for name, info in chosen.items()}
    except safe_pickle.ZIP_ERRORS as error:
      raise ValueError(f"{source} is no wheel ({error}): download it again") from error
  if blazepose.DETECTOR not in found or len(found) < 2:
    has = ", ".join(found) or "no model"
    raise ValueError(f"{source} has {has}, expected {blazepose.DETECTOR} and pose_landmark_*.tflite")
  return found


def is_known(name: str, raw: bytes) -> bool:
  """Whether a model is that of mediapipe 0.10.21, by SHA-256; False for one that is not listed. Raises ValueError for
  another file under a listed name.
  """
  digest = hashlib.sha256(raw).hexdigest()
  if name in DIGESTS and DIGESTS[name] != digest:
    raise ValueError(f"{name} has SHA-256 {digest}, expected {DIGESTS[name]}: give the wheel of mediapipe 0.10.21")
  return name in DIGESTS
