"""The table of detector formats, and their recognition by content.

To add a format, write its reader in `arrays` (npz, npy), `documents` (JSON) or `folders` (a file for each frame), add
a row to FORMATS, and let `recognise` of the reader's file return the name.
"""

import pathlib

from posynda_jax.interop.keypoints import arrays, documents, folders
from posynda_jax.interop.keypoints.detections import Detections


def _mediapipe(path, layout=None) -> list[Detections]:
  return (arrays if _is_array_file(path) else documents).mediapipe(path, layout)


FORMATS = {  # name -> reader, `(path, layout or None) -> list of Detections`
    "videopose3d": arrays.videopose3d, "detectron": arrays.detectron, "video_to_pose3d": arrays.video_to_pose3d,
    "mhformer": arrays.mhformer, "openpose": folders.openpose, "alphapose": documents.alphapose,
    "coco_results": documents.alphapose,  # the same list; HRNet and ViTPose write it
    "mmpose": documents.mmpose, "mmpose_inferencer": folders.mmpose_inferencer, "yolo": folders.yolo,
    "mediapipe": _mediapipe, "plain": arrays.plain,
}
_FOLDERS = ("openpose", "mmpose_inferencer", "yolo")  # formats of a file for each frame


def _head(path) -> bytes:
  with open(path, "rb") as file:
    return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()


def _is_array_file(path) -> bool:
  return _head(path).startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY"))


def _recognise(path: pathlib.Path) -> str | None:
  """The name in FORMATS of a file or folder; None if it is unknown. Raises ValueError for a damaged file."""
  if path.is_dir():
    return folders.recognise(path)
  if _is_array_file(path):
    return arrays.recognise(path)
  head = _head(path)
  if head[:1] in (b"{", b"["):
    return documents.recognise(path)
  return "yolo" if head[:1].isdigit() and path.suffix == ".txt" else None


def read(path, name: str | None = None, layout: str | None = None) -> tuple[str, list[Detections]]:
  """The format's name, recognised without `name`, and the detections of every video in a file or folder.

  Raises FileNotFoundError, and ValueError for all else.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist: give the file or folder that the detector wrote")
  name = name or _recognise(path)
  if name is None:
    raise ValueError(f"{path} is of no known format; known formats are {', '.join(FORMATS)}: name yours with --format")
  if path.is_dir() and name not in _FOLDERS:
    raise ValueError(f"{path} is a folder, {name} is a file: give the file, or leave --format out")
  try:
    return name, FORMATS[name](path, layout)
  except (TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise ValueError(f"{path} is not nested as {name} writes it ({what}): not of this format, see --format") from error
