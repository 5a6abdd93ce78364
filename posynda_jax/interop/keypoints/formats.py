"""The table of detector formats, and their recognition by content.

To add a format, write its reader in `arrays` (npz, npy), `documents` (JSON) or `folders` (a file for each frame), add
a row to FORMATS, and let `recognise` of the reader's file return the name.
"""

import dataclasses
import pathlib
from collections.abc import Callable

from posynda_jax.interop.keypoints import arrays, documents, folders
from posynda_jax.interop.keypoints.detections import Detections, UnknownFormat


@dataclasses.dataclass(frozen=True)
class Format:
  """`read(path, layout or None) -> list of Detections`, and whether a folder may be given."""

  read: Callable
  folder: bool = False


def _mediapipe(path, layout=None) -> list[Detections]:
  return (arrays if _is_array_file(path) else documents).mediapipe(path, layout)


FORMATS = {
    "videopose3d": Format(arrays.videopose3d),
    "detectron": Format(arrays.detectron),
    "video_to_pose3d": Format(arrays.video_to_pose3d),
    "mhformer": Format(arrays.mhformer),
    "openpose": Format(folders.openpose, folder=True),
    "alphapose": Format(documents.alphapose),
    "coco_results": Format(documents.alphapose),  # the same list; HRNet and ViTPose write it
    "mmpose": Format(documents.mmpose),
    "mmpose_inferencer": Format(folders.mmpose_inferencer, folder=True),
    "yolo": Format(folders.yolo, folder=True),
    "mediapipe": Format(_mediapipe),
    "plain": Format(arrays.plain),
}


def _head(path) -> bytes:
  with open(path, "rb") as file:
    return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()


def _is_array_file(path) -> bool:
  return _head(path).startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY"))


def recognise(path) -> str:
  """The name in FORMATS of a file or folder. Raises ValueError for an unknown format."""
  path = pathlib.Path(path)
  try:
    name = _recognise(path)
  except UnknownFormat as error:
    raise ValueError(f"{error}; known formats are {', '.join(FORMATS)}: name yours with --format") from None
  if name is None:
    raise ValueError(f"{path} is an empty list: the detector found nobody, or did not run")
  return name


def _recognise(path: pathlib.Path) -> str | None:
  if path.is_dir():
    return folders.recognise(path)
  if _is_array_file(path):
    return arrays.recognise(path)
  head = _head(path)
  if head[:1] in (b"{", b"["):
    return documents.recognise(path)
  if head[:1].isdigit() and path.suffix == ".txt":
    return "yolo"
  raise UnknownFormat(f"{path} {'is neither npz, npy, JSON nor YOLO-pose txt' if head else 'is empty'}")


def read(path, name: str | None = None, layout: str | None = None) -> tuple[str, list[Detections]]:
  """The format's name, recognised without `name`, and the detections of every video in a file or folder.

  Raises FileNotFoundError, and ValueError for all else.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist: give the file or folder that the detector wrote")
  name = name or recognise(path)
  if path.is_dir() and not FORMATS[name].folder:
    raise ValueError(f"{path} is a folder, {name} is a file: give the file, or leave --format out")
  try:
    return name, FORMATS[name].read(path, layout)
  except (TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise ValueError(f"{path} is not nested as {name} writes it ({what}): not of this format, see --format") from error
