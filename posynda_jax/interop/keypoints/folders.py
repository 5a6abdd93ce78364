"""Keypoints in a folder with one file for each frame: OpenPose, MMPose and AlphaPose (JSON), YOLO-pose (txt).

Every reader is `(path, layout or None) -> list of Detections` and also takes a single file. Readers hold one file at
a time.
"""

import os
import pathlib

import numpy as np

from posynda_jax.interop.keypoints import documents, fields, json_stream, numbering, recognition
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
  others = sorted((entry.name for entry in found), key=numbering.natural)
  what = f" but {', '.join(others[:3])}" + f" and {len(others) - 3} more" * (len(others) > 3) if others else ""
  are_arrays = bool(others) and all(name.lower().endswith((".npy", ".npz")) for name in others)
  file = "one file with the array (T, joints, 2 or 3) of all frames" if are_arrays else "the file of keypoints"
  give = f"{file}, or " * bool(others) + "the folder that the detector wrote into"
  raise ValueError(f"{path} has no {ending} file{what}: give {give}")


def _videos(path, ending: str) -> tuple[dict[str, list[tuple[int, pathlib.Path]]], tuple[str, ...]]:
  """({video: [(frame, file)]}, notes); frame 0 of one video for a single file.

  A file whose name is unlike all others is no frame: a note names it.
  """
  if pathlib.Path(path).is_file():
    return {"": [(0, pathlib.Path(path))]}, ()
  found = {file.name: file for file in files(path, ending)}
  notes = ()
  if len(found) > 1 and not numbering.have_numbers(found):
    if sum(any(map(str.isdigit, name)) for name in found) > len(found) / 2:  # the digits are random
      names = f"files whose names hold no frame number ({', '.join([*found][:2])}, ...)"
      raise ValueError(f"{path} has {names}: rename them as frame_0001{ending}, in the order of the video")
    notes = ("names of files hold no number: they were read in the order of the alphabet",)
  videos = numbering.videos(found)
  alone = [next(iter(frames)) for frames in videos.values() if len(frames) == 1]
  kept = {video: frames for video, frames in videos.items() if len(frames) > 1} or videos
  skipped = ", ".join(alone[:5]) if len(kept) < len(videos) else ""
  notes += (f"skipped, because no other name is like theirs: {skipped}",) if skipped else ()
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
    found += collector.finish(num_frames=len(frames), sequence=video, notes=notes)
  return found


def _is_video(document) -> bool:
  """Whether the document of one file holds several frames."""
  if isinstance(document, dict):
    document = next((document[name] for name in documents.LISTS if name in document), None)
  frames = document if isinstance(document, list) else []
  if all(isinstance(one, dict) for one in frames):
    when = (*fields.FRAME_OF_ENTRY, fields.TIME_OF_ENTRY)
    keys = {key for one in frames for key in one if any(fields.matches(key, pattern) for pattern in when)}
    return any(len({str(one[key]) for one in frames if key in one}) > 1 for key in keys)
  return len(frames) > 1 and all(isinstance(one, list) and isinstance(next(iter(one), None), dict) for one in frames)


def yolo(path, layout=None) -> list[Detections]:
  """YOLO-pose `save_txt`: lines `class cx cy w h (x y [v]) x 17 [conf] [track]` in shares of width and height.

  Frames are numbered from 1, and frames without people have no file. A last column of whole numbers is the track.
  """
  (videos, notes), found = _videos(path, ".txt"), []
  for video, frames in videos.items():
    collector, first = Collector(path, layout or "coco17"), min(1, frames[0][0])
    rows = [(frame - first, row) for frame, file in frames for row in _yolo_rows(file)]
    lengths = {len(row) for _, row in rows} or {0}
    axes = next((axes for axes in (3, 2) if 0 <= min(lengths) - _YOLO_BOX - 17 * axes <= 2), 0)
    if len(lengths) > 1 or not axes and rows:
      listed, expected = " and ".join(map(str, sorted(lengths))), "expected 5, 17 times x y [v], conf and track in all"
      raise ValueError(f"{path} has lines of {listed} numbers, {expected}: not YOLO-pose, or runs with other flags")
    rest = np.array([row[_YOLO_BOX + 17 * axes :] for _, row in rows])
    tracked = rest.ndim == 2 and (rest.shape[1] == 2 or rest.shape[1] == 1 and (rest == np.round(rest)).all())
    for frame, row in rows:
      joints = row[_YOLO_BOX : _YOLO_BOX + 17 * axes].reshape(17, axes)
      collector.add(frame, joints, person=int(row[-1]) if tracked else None)
    found += collector.finish(sequence=video, notes=notes, normalised=True, num_frames=None)
  return found


def _yolo_rows(file: pathlib.Path) -> list[np.ndarray]:
  if file.stat().st_size > 2**24:
    raise ValueError(f"{file} has {file.stat().st_size:,} bytes: not one frame of YOLO-pose")
  try:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [np.array(line.split(), np.float32) for line in lines if line.strip()]
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
  name = recognition.recognise(file)
  if name in ("alphapose", "coco_results", "coco_annotations", "skeletons"):
    whole = f"{file.name} in it is a whole video's {name} output"
    raise ValueError(f"{path} is a folder, but {whole}: give the file itself")
  return name
