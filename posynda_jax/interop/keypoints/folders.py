"""Keypoints in a folder with one file for each frame: OpenPose, MMPose and AlphaPose (JSON), YOLO-pose (txt).

Every reader is `(path, layout or None) -> list of Detections` and also takes a single file. Readers hold one file at
a time.
"""

import os
import pathlib
from collections.abc import Iterator

import numpy as np

from posynda_jax.interop.keypoints import detections, documents, json_stream, numbering
from posynda_jax.interop.keypoints.detections import Collector, Detections

MAX_FILES = 150_000
_YOLO_BOX = 5  # numbers before the joints: class, centre and size of the box


def files(path, ending: str) -> list[pathlib.Path]:
  """The folder's files of that ending but hidden ones, in natural order; or those of its only folder that has some,
  as `labels` of Ultralytics.

  Raises ValueError if there are none, too many, or several such folders.
  """
  path = pathlib.Path(path)
  found = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
  names = [entry for entry in found if entry.name.lower().endswith(ending)]
  names.sort(key=lambda entry: numbering.natural(entry.name))
  if len(names) > MAX_FILES:
    raise ValueError(f"{path} has more than {MAX_FILES:,} {ending} files: cut the video into pieces")
  if names:
    return names
  folders = [entry for entry in found if entry.is_dir()]
  inside = [entry for entry in folders if any(file.name.lower().endswith(ending) for file in entry.iterdir())]
  if len(inside) == 1:
    return files(inside[0], ending)
  if inside:
    listed = ", ".join(sorted(entry.name for entry in inside)[:8])
    raise ValueError(f"{path} has {ending} files in several folders ({listed}): give one of them")
  raise ValueError(f"{path} has no {ending} file: give the folder that the detector wrote into")


def _videos(path, ending: str) -> tuple[dict[str, list[tuple[int, pathlib.Path]]], tuple[str, ...]]:
  """({video: [(frame, file)]}, notes); frame 0 of one video for a single file.

  A file whose name is unlike all others is no frame: a note names it.
  """
  if pathlib.Path(path).is_file():
    return {"": [(0, pathlib.Path(path))]}, ()
  found = {file.name: file for file in files(path, ending)}
  videos = numbering.videos(found)
  alone = [next(iter(frames)) for frames in videos.values() if len(frames) == 1]
  kept = {video: frames for video, frames in videos.items() if len(frames) > 1} or videos
  skipped = ", ".join(alone[:5]) if len(kept) < len(videos) else ""
  notes = (f"skipped, because no other name is like theirs: {skipped}",) if skipped else ()
  names = [""] if len(kept) == 1 else list(kept)
  return {
      name: sorted((frame, found[file]) for file, frame in frames.items())
      for name, frames in zip(names, kept.values(), strict=True)
  }, notes


def read(path, layout=None) -> list[Detections]:
  """A folder with a JSON file for each frame, as OpenPose, MMPose, Ultralytics and AlphaPose's `sep-json` write it; or
  one JSON file of a whole video or image.
  """
  if pathlib.Path(path).is_file():
    return documents.read(path, layout)
  if len(frames := files(path, ".json")) == 1:  # perhaps of a whole video
    return documents.read(frames[0], layout)
  (videos, notes), found = _videos(path, ".json"), []
  for video, frames in videos.items():
    collector = Collector(path, layout)
    for frame, file in frames:
      try:
        document = json_stream.load(file)
        if _is_video(document):
          raise ValueError(f"{path} is a folder, but {file.name} in it is a whole video: give the file itself")
        documents.add_frame(collector, frame, document)
      except ValueError as error:
        raise error if str(file) in str(error) else ValueError(f"{error} ({file.name})") from error
    found += collector.finish(
        num_frames=len(frames), sequence=video, notes=notes, normalised=collector.are_shares)
  return found


def _is_video(document) -> bool:
  """Whether the document of one file holds several frames."""
  if isinstance(document, dict):
    document = next((document[name] for name in documents.LISTS if name in document), None)
  frames = document if isinstance(document, list) else []
  if all(isinstance(one, dict) for one in frames):
    return len({str(one[name]) for one in frames for name in documents.FRAME + documents.TIME if name in one}) > 1
  return len(frames) > 1 and all(isinstance(one, list) and isinstance(next(iter(one), None), dict) for one in frames)


def yolo(path, layout=None) -> list[Detections]:
  """YOLO-pose `save_txt`: lines `class cx cy w h (x y [v]) x 17 [conf] [track]` in shares of width and height.

  Frames are numbered from 1, and frames without people have no file. A last column of whole numbers is the track.
  """
  videos, notes = _videos(path, ".txt")
  return [_yolo_video(path, frames, layout, sequence=video, notes=notes) for video, frames in videos.items()]


def _yolo_video(path, found: list[tuple[int, pathlib.Path]], layout, **fields) -> Detections:
  first = min(1, found[0][0])
  rows, frames = [], []
  for frame, file in found:
    for row in _yolo_rows(file):
      if rows and len(row) != len(rows[0]):
        mixed = "runs with and without save_conf, track mixed"
        raise ValueError(f"{file} has {len(row)} columns, others {len(rows[0])}: {mixed}")
      rows.append(row)
      frames.append(frame - first)
    if len(rows) > detections.MAX_DETECTIONS:
      raise ValueError(f"{path} has more than {detections.MAX_DETECTIONS:,} detections: cut the video into pieces")
  if not rows:
    raise ValueError(f"{path} has no person in any of {len(found)} files")
  table = np.stack(rows)
  coordinates = next((c for c in (3, 2) if 0 <= table.shape[1] - _YOLO_BOX - 17 * c <= 2), None)
  if coordinates is None:
    expected = "expected 5, 17 times x y [v], conf and track"
    raise ValueError(f"{path} has lines of {table.shape[1]} numbers, {expected}: not YOLO-pose")
  joints, rest = np.split(table[:, _YOLO_BOX:], [17 * coordinates], axis=1)
  joints = joints.reshape(-1, 17, coordinates)
  tracked = rest.shape[1] == 2 or (rest.shape[1] == 1 and (rest == np.round(rest)).all())
  scores = joints[..., 2] if coordinates == 3 else np.ones(joints.shape[:2])
  detections.check_scores(joints[..., :2], scores, path)
  person = rest[:, -1].astype(np.int64) if tracked else None
  return Detections(np.array(frames), joints[..., :2], scores, layout or "coco17", person, normalised=True, **fields)


def _yolo_rows(file: pathlib.Path) -> Iterator[np.ndarray]:
  if file.stat().st_size > 2**24:
    raise ValueError(f"{file} has {file.stat().st_size:,} bytes: not one frame of YOLO-pose")
  try:
    for line in file.read_text(encoding="utf-8").splitlines():
      if line.strip():
        yield np.array(line.split(), np.float32)
  except ValueError as error:
    raise ValueError(f"{file} is not lines of numbers ({error}): not YOLO-pose, or damaged") from error


def recognise(path) -> str | None:
  """The format's name, by the ending of the folder's files and the first of them; None for an unknown format.

  Raises ValueError if there is no such file or it holds a whole video.
  """
  names = [name.lower() for name in os.listdir(path) if not name.startswith(".")]
  ends = [sum(name.endswith(ending) for name in names) for ending in (".txt", ".json")]
  if ends == [0, 0] and (pathlib.Path(path) / "labels").is_dir():
    return recognise(pathlib.Path(path) / "labels")
  if ends[0] > ends[1]:
    return "yolo"
  videos, _ = _videos(path, ".json")
  file = next(iter(videos.values()))[0][1]
  name = documents.recognise(file)
  if name in ("alphapose", "coco_results", "coco_annotations", "skeletons"):
    whole = f"{file.name} in it is a whole video's {name} output"
    raise ValueError(f"{path} is a folder, but {whole}: give the file itself")
  return name
