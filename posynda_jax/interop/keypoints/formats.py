"""The detector formats by name, and telling them by content: never by the ending of a file alone."""

import pathlib

from posynda_jax.interop.keypoints import arrays, documents, folders
from posynda_jax.interop.keypoints.detections import Detections


def _mediapipe(path, layout=None) -> list[Detections]:
  return (arrays if _is_array_file(path) else documents).mediapipe(path, layout)


FORMATS = {
    "videopose3d": arrays.videopose3d,
    "detectron": arrays.detectron,
    "video_to_pose3d": arrays.video_to_pose3d,
    "mhformer": arrays.mhformer,
    "openpose": folders.openpose,
    "alphapose": documents.alphapose,
    "coco_results": documents.alphapose,  # the same list; HRNet and ViTPose write it
    "mmpose": documents.mmpose,
    "mmpose_inferencer": folders.mmpose_inferencer,
    "yolo": folders.yolo,
    "mediapipe": _mediapipe,
    "plain": arrays.plain,
}
_FOLDERS = ("openpose", "mmpose_inferencer", "yolo")


def _head(path) -> bytes:
  with open(path, "rb") as file:
    return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()


def _is_array_file(path) -> bool:
  return _head(path).startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY"))


def recognise(path) -> str:
  """The name in `FORMATS` of a file or folder. Raises FileNotFoundError, and ValueError where nothing known is in it."""
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist: give the file or folder that the detector wrote")
  if path.is_dir():
    return folders.recognise(path)
  head = _head(path)
  if _is_array_file(path):
    return arrays.recognise(path)
  if head[:1] in (b"{", b"["):
    name = documents.recognise(path)
    if name is None:
      raise ValueError(f"{path} is an empty list: the detector found nobody, or did not run")
    return name
  if head[:1].isdigit() and path.suffix == ".txt":
    return "yolo"
  what = "is empty" if not head else "is neither npz, npy, JSON nor YOLO-pose txt"
  raise ValueError(f"{path} {what}; known formats are {', '.join(FORMATS)}")


def read(path, name: str, layout: str | None = None) -> list[Detections]:
  """The videos in a file or folder of the named format, each as `Detections`. Raises ValueError."""
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist: give the file or folder that the detector wrote")
  if path.is_dir() and name not in _FOLDERS:
    raise ValueError(f"{path} is a folder, {name} is a file: give the file, or leave --format out")
  try:
    return FORMATS[name](path, layout)
  except (TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:  # other nesting than any reader foresaw
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    raise ValueError(f"{path} is not nested as {name} writes it ({what}): not of this format, see --format") from error
