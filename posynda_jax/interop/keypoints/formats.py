"""The table of detector formats, and their recognition by content.

To add a format, write its reader in `arrays` (npz, npy), `documents` (JSON), `coco` (annotations), `tables` (CSV) or
`folders` (a file for each frame), add a row to FORMATS, and let `recognise` of `arrays`, `recognition` (JSON)
or `folders` return the name.
"""

import contextlib
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator

from posynda_jax.data import safe_pickle
from posynda_jax.interop.keypoints import arrays, coco, documents, folders, json_stream, recognition, tables
from posynda_jax.interop.keypoints.detections import Detections

FORMATS = {  # name -> reader, `(path, layout or None) -> list of Detections`
    "videopose3d": arrays.videopose3d, "detectron": arrays.detectron, "video_to_pose3d": arrays.video_to_pose3d,
    "mhformer": arrays.mhformer, "openpose": folders.read, "alphapose": documents.read,
    "coco_results": documents.read,  # HRNet and ViTPose write it
    "coco_annotations": coco.read, "ultralytics": folders.read, "skeletons": documents.read,
    "keypoints_scores": arrays.keypoints_scores, "csv": tables.read, "data_frame": tables.read_json,
    "mmpose": folders.read,
    "mmpose_inferencer": folders.read, "yolo": folders.yolo, "mediapipe": folders.read, "plain": arrays.plain,
    "json": folders.read,  # frames in lists or objects that no detector writes so
}
_OFFICE = {"[Content_Types].xml", "content.xml"}  # of Excel, and of LibreOffice


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
    return recognition.recognise(path)
  if head.startswith(b"\x1f\x8b"):
    raise ValueError(f"{path} is packed by gzip: unpack it with gunzip or tar, and give what was in it")
  if head[:1].isdigit() and path.suffix == ".txt":
    return "yolo"
  return "csv" if path.suffix.lower() in (".csv", ".tsv") else None


def _is_packed(path: pathlib.Path) -> bool:
  """Whether a file is a zip archive of files, and not an npz."""
  if not zipfile.is_zipfile(path):
    return False
  try:
    with zipfile.ZipFile(path) as archive:
      return not any(name.endswith(".npy") for name in archive.namelist())
  except safe_pickle.ZIP_ERRORS as error:
    raise ValueError(f"{path} is a damaged zip archive or npz file ({error}): fetch it again") from error


@contextlib.contextmanager
def _unpacked(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder, while it is used, with the files of a zip archive. Raises ValueError for a damaged or too large one, and
  for an office document.
  """
  with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
    members = [one for one in archive.infolist() if not one.filename.startswith("__MACOSX/")]
    if _OFFICE & {member.filename for member in members}:
      raise ValueError(f"{path} is a spreadsheet or another office document: save its table as CSV and give that")
    size = sum(member.file_size for member in members)
    if size > json_stream.MAX_BYTES or len(members) > folders.MAX_FILES:
      limit = f"more than {json_stream.MAX_BYTES:,} or {folders.MAX_FILES:,}: it is refused; cut the video into pieces"
      raise ValueError(f"{path} unpacks to {size:,} bytes in {len(members):,} files, {limit}")
    try:
      archive.extractall(folder, members)  # drops "..", drives and leading slashes
    except (*safe_pickle.ZIP_ERRORS, IndexError) as error:  # IndexError: a member without a name
      raise ValueError(f"{path} cannot be unpacked ({error}): damaged, or locked by a password") from error
    inside = [entry for entry in pathlib.Path(folder).iterdir() if not entry.name.startswith(".")]
    unpacked = inside[0] if len(inside) == 1 else pathlib.Path(folder)
    if unpacked.is_file() and _is_packed(unpacked):
      raise ValueError(f"{path} holds another archive, {unpacked.name}: unpack it and give that")
    yield unpacked


def read(path, name: str | None = None, layout: str | None = None) -> tuple[str, list[Detections]]:
  """The format's name, recognised without `name`, and the detections of every video in a file or folder.

  Raises FileNotFoundError, and ValueError for all else.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise FileNotFoundError(f"{path} does not exist: give the file or folder that the detector wrote")
  if path.is_file() and _is_packed(path):
    with _unpacked(path) as folder:
      try:
        return read(folder, name, layout)
      except (ValueError, FileNotFoundError) as error:
        raise ValueError(str(error).replace(str(folder), str(path))) from error
  try:
    name = name or _recognise(path)
    if name is None:
      begins = "" if path.is_dir() else f" (it begins with {_head(path)[:40].decode(errors='replace')!r})"
      known = f"known formats are {', '.join(FORMATS)}: name yours with --format"
      raise ValueError(f"{path} is of no known format{begins}; {known}")
    if path.is_dir() and FORMATS[name] not in (folders.read, folders.yolo):
      raise ValueError(f"{path} is a folder, {name} is a file: give the file, or leave --format out")
    is_mediapipe_array = name == "mediapipe" and path.is_file() and _is_array_file(path)  # else JSON
    return name, (arrays.mediapipe if is_mediapipe_array else FORMATS[name])(path, layout)
  except (TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    nested = f"{path} is not nested as {name or 'any detector'} writes it"
    raise ValueError(f"{nested} ({what}): not of this format, see --format") from error
  except ValueError as error:
    raise error if str(path) in str(error) else ValueError(f"{path}: {' '.join(str(error).split())}") from error
