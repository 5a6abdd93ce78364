"""Keypoints in JSON files: OpenPose, AlphaPose, COCO results, MMPose's demo and inferencer, MediaPipe.

Every reader is `(path, layout or None) -> list of Detections`. Files are walked through, never held whole. Fields a detector adds
besides are passed over; a field that is missing is an error that names file and frame.
"""

from typing import Any

from posynda_jax.interop.keypoints.detections import Collector, Detections
from posynda_jax.interop.keypoints.json_stream import Reader

# Datasets whose 17 joints MMPose names in `meta_info`; other numbers of joints tell themselves.
_MMPOSE_17 = {"coco": "coco17", "h36m": "h36m17", "mpi_inf_3dhp": "dhp17"}


def _field(entry: Any, name: str, where) -> Any:
  if not isinstance(entry, dict) or name not in entry:
    what = f"has no {name!r}" if isinstance(entry, dict) else f"is a {type(entry).__name__}, expected an object with {name!r}"
    raise ValueError(f"{where} {what}: not of this format, see --format")
  return entry[name]


def _list(value: Any, where) -> list:
  if not isinstance(value, list):
    raise ValueError(f"{where} is a {type(value).__name__}, expected a list: not of this format, see --format")
  return value


def add_people(collector: Collector, frame, document: Any) -> None:
  """One frame of OpenPose (`people` with `pose_keypoints_2d`, once `pose_keypoints`) or of AlphaPose's imitations of it."""
  where = f"{collector.label}, frame {frame}"
  key = "bodies" if isinstance(document, dict) and "bodies" in document else "people"
  for person in _list(_field(document, key, where), where):
    name = next((n for n in ("pose_keypoints_2d", "pose_keypoints", "joints") if isinstance(person, dict) and n in person), None)
    keypoints = _field(person, name or "pose_keypoints_2d", where)
    number = person.get("person_id", -1)
    number = number[0] if isinstance(number, list) and number else number
    if keypoints:  # else only a face or a hand was found
      collector.add(frame, keypoints, person=number if isinstance(number, int) and number >= 0 else None)


def openpose(path, layout=None) -> list[Detections]:
  """A single frame of OpenPose's `--write_json`."""
  collector = Collector(path, layout)
  with Reader(path) as reader:
    add_people(collector, 0, reader.value())
    reader.end()
  return [collector.finish(num_frames=1)]


def alphapose(path, layout=None) -> list[Detections]:
  """AlphaPose's results: a list of detections by `image_id`, or {image: {"people"|"bodies": [...]}}. Also COCO results."""
  collector = Collector(path, layout)
  with Reader(path) as reader:
    if reader.peek() == "{":
      for image in reader.members():
        add_people(collector, image, reader.value())
    else:
      for entry in reader.elements():
        frame = _field(entry, "image_id", path)
        collector.add(frame, _field(entry, "keypoints", f"{path}, frame {frame}"), person=entry.get("idx"))
    reader.end()
  return [collector.finish()]


def add_instances(collector: Collector, frame, instances: Any) -> None:
  """The people of one frame as MMPose writes them: `keypoints` [[x, y], ...] and `keypoint_scores`."""
  where = f"{collector.label}, frame {frame}"
  for one in _list(instances, where):
    collector.add(frame, _field(one, "keypoints", where), _field(one, "keypoint_scores", where), one.get("track_id"))


def _add_frames(collector: Collector, reader: Reader, first: int) -> int:
  """Frames {frame_id, instances} of MMPose, numbered from `first`, or the people of one image. Returns how many frames."""
  number = 0
  for entry in reader.elements():
    if isinstance(entry, dict) and "keypoints" in entry:
      number = 1
      add_instances(collector, 0, [entry])
    else:
      frame = _field(entry, "frame_id", collector.label)
      if not isinstance(frame, int) or frame < first:
        raise ValueError(f"{collector.label}: frame_id {frame!r}, expected numbers from {first}: another format? see --format")
      number = max(number, frame - first + 1)
      add_instances(collector, frame - first, _field(entry, "instances", f"{collector.label}, frame_id {frame}"))
  return number


def mmpose(path, layout=None) -> list[Detections]:
  """MMPose's demo scripts: {meta_info, instance_info: [{frame_id from 1, instances}]}."""
  collector, number = Collector(path, layout), None
  with Reader(path) as reader:
    for key in reader.members():
      if key == "instance_info":
        number = _add_frames(collector, reader, 1)
      else:
        value = reader.value()
        if key == "meta_info" and layout is None:
          collector.layout = _mmpose_layout(value, path)
    reader.end()
  if number is None:
    raise ValueError(f"{path} has no instance_info: not the output of MMPose's demo scripts")
  return [collector.finish(num_frames=number)]


def _mmpose_layout(meta: Any, path) -> str | None:
  """Of the 17-joint orders the one the file names; None where the number of joints tells."""
  if not isinstance(meta, dict) or meta.get("num_keypoints") != 17:
    return None
  name = meta.get("dataset_name")
  if name not in _MMPOSE_17:
    raise ValueError(f"{path} has the 17 joints of {name!r}, known are {', '.join(_MMPOSE_17)}: name the layout with --layout")
  return _MMPOSE_17[name]


def mmpose_inferencer(path, layout=None) -> list[Detections]:
  """MMPose's inferencer: of a video [{frame_id from 0, instances}], of an image [instance, ...]."""
  collector = Collector(path, layout)
  with Reader(path) as reader:
    number = _add_frames(collector, reader, 0)
    reader.end()
  return [collector.finish(num_frames=number)]


def mediapipe(path, layout=None) -> list[Detections]:
  """MediaPipe: for each frame 33 {x, y, z, visibility}, or a list of people with 33 each, or null where nobody was found."""
  collector, number = Collector(path, layout or "mediapipe33"), 0
  with Reader(path) as reader:
    for number, entry in enumerate(reader.elements(), 1):
      landmarks = _list([] if entry is None else entry, f"{path}, frame {number - 1}")
      for person in landmarks if landmarks and isinstance(landmarks[0], list) else [landmarks] if landmarks else []:
        where = f"{path}, frame {number - 1}"
        collector.add(number - 1, [[_field(p, "x", where), _field(p, "y", where), p.get("visibility", 1)] for p in person])
    reader.end()
  return [collector.finish(num_frames=number, normalised=True)]


def recognise(path) -> str | None:
  """The format's name, by the first element that tells; None for an empty list. Raises ValueError where none does."""
  with Reader(path) as reader:
    if reader.peek() == "{":
      key = next(reader.members(), None)
      if key in ("meta_info", "instance_info"):
        return "mmpose"
      first = reader.value() if key is not None else None
      if isinstance(first, dict) and {"people", "bodies"} & set(first):
        return "alphapose"
      if key in ("version", "people", "bodies"):
        return "openpose"
    elif reader.peek() == "[":
      number = -1
      for number, first in enumerate(reader.elements()):
        if first is None or first == []:
          continue
        fields = set(first) if isinstance(first, dict) else set()
        if isinstance(first, list):
          return "mediapipe"
        if "image_id" in fields:
          return "alphapose" if isinstance(first["image_id"], str) or "idx" in fields else "coco_results"
        if {"instances", "keypoint_scores"} & fields:
          return "mmpose_inferencer"
        break
      else:
        return "mediapipe" if number >= 0 else None
  raise ValueError(f"{path} is JSON of no format known here: name it with --format, or give what the detector wrote")
