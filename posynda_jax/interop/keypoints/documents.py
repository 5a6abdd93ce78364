"""Keypoints in JSON files: OpenPose, AlphaPose, COCO results, MMPose's demo and inferencer, MediaPipe.

Every reader is `(path, layout or None) -> list of Detections`. Readers hold one element of a file at a time and skip
the fields that they do not need. A missing field is a ValueError that names the file and the frame.
"""

from typing import Any

from posynda_jax.interop.keypoints.detections import Collector, Detections
from posynda_jax.interop.keypoints.json_stream import Reader

# `dataset_name` in MMPose's `meta_info` -> layout. Where a skeleton has not 17 joints, their number gives the layout.
_MMPOSE_17 = {"coco": "coco17", "h36m": "h36m17", "mpi_inf_3dhp": "dhp17"}
_OTHER = "not of this format, see --format"


def _field(entry: Any, name: str, where) -> Any:
  if not isinstance(entry, dict):
    raise ValueError(f"{where} is a {type(entry).__name__}, expected an object with {name!r}: {_OTHER}")
  if name not in entry:
    raise ValueError(f"{where} has no {name!r}: {_OTHER}")
  return entry[name]


def _list(value: Any, where) -> list:
  if not isinstance(value, list):
    raise ValueError(f"{where} is a {type(value).__name__}, expected a list: {_OTHER}")
  return value


def add_people(collector: Collector, frame, document: Any) -> None:
  """Adds one frame of OpenPose, or of AlphaPose in OpenPose's form. Older versions write `pose_keypoints`."""
  where = f"{collector.label}, frame {frame}"
  key = "bodies" if isinstance(document, dict) and "bodies" in document else "people"
  for person in _list(_field(document, key, where), where):
    known = ("pose_keypoints_2d", "pose_keypoints", "joints")
    name = next((name for name in known if isinstance(person, dict) and name in person), known[0])
    keypoints = _field(person, name, where)
    number = person.get("person_id", -1)
    number = number[0] if isinstance(number, list) and number else number
    if keypoints:  # empty where only a face or a hand was found
      collector.add(frame, keypoints, person=number if isinstance(number, int) and number >= 0 else None)


def alphapose(path, layout=None) -> list[Detections]:
  """AlphaPose's results, a list of detections by `image_id` or {image: {"people"|"bodies": [...]}}; COCO results."""
  collector, reader = Collector(path, layout), Reader(path)
  if reader.is_object:
    for image in reader.members():
      add_people(collector, image, reader.value())
  else:
    for entry in reader.elements():
      frame = _field(entry, "image_id", path)
      collector.add(frame, _field(entry, "keypoints", f"{path}, frame {frame}"), person=entry.get("idx"))
  return [collector.finish()]


def add_instances(collector: Collector, frame, instances: Any) -> None:
  """Adds one frame of MMPose: people with `keypoints` [[x, y], ...] and `keypoint_scores`."""
  where = f"{collector.label}, frame {frame}"
  for one in _list(instances, where):
    collector.add(frame, _field(one, "keypoints", where), _field(one, "keypoint_scores", where), one.get("track_id"))


def _add_frames(collector: Collector, reader: Reader, first: int) -> int:
  """The number of frames that were added: {frame_id from `first`, instances} of MMPose, or one image's people."""
  number = 0
  for entry in reader.elements():
    if isinstance(entry, dict) and "keypoints" in entry:
      frame, instances = 0, [entry]
    else:
      frame = _field(entry, "frame_id", collector.label)
      if not isinstance(frame, int) or frame < first:
        raise ValueError(f"{collector.label}: frame_id {frame!r}, expected numbers from {first}: {_OTHER}")
      frame, instances = frame - first, _field(entry, "instances", f"{collector.label}, frame_id {frame}")
    add_instances(collector, frame, instances)
    number = max(number, frame + 1)
  return number


def mmpose(path, layout=None) -> list[Detections]:
  """MMPose's demo scripts: {meta_info, instance_info: [{frame_id from 1, instances}]}."""
  collector, reader, number = Collector(path, layout), Reader(path), None
  for key in reader.members():
    if key == "instance_info":
      number = _add_frames(collector, reader, 1)
    elif key == "meta_info" and layout is None:
      collector.layout = _mmpose_layout(reader.value(), path)
    else:
      reader.value()
  if number is None:
    raise ValueError(f"{path} has no instance_info: not the output of MMPose's demo scripts")
  return [collector.finish(num_frames=number)]


def _mmpose_layout(meta: Any, path) -> str | None:
  """The layout that the file names for 17 joints; None for another number of joints."""
  if not isinstance(meta, dict) or meta.get("num_keypoints") != 17:
    return None
  name = meta.get("dataset_name")
  if name not in _MMPOSE_17:
    known = ", ".join(_MMPOSE_17)
    raise ValueError(f"{path} has the 17 joints of {name!r}, known are {known}: name the layout with --layout")
  return _MMPOSE_17[name]


def mmpose_inferencer(path, layout=None) -> list[Detections]:
  """MMPose's inferencer: [{frame_id from 0, instances}] for a video, [instance, ...] for an image."""
  collector = Collector(path, layout)
  return [collector.finish(num_frames=_add_frames(collector, Reader(path), 0))]


def mediapipe(path, layout=None) -> list[Detections]:
  """MediaPipe: for each frame 33 {x, y, z, visibility}, or a list of people with 33 each, or null for nobody."""
  collector, number = Collector(path, layout or "mediapipe33"), 0
  for number, entry in enumerate(Reader(path).elements(), 1):
    where = f"{path}, frame {number - 1}"
    people = _list([] if entry is None else entry, where)
    if people and not isinstance(people[0], list):
      people = [people]
    for person in people:
      joints = [[_field(p, "x", where), _field(p, "y", where), p.get("visibility", 1)] for p in person]
      collector.add(number - 1, joints)
  return [collector.finish(num_frames=number, normalised=True)]


def recognise(path) -> str | None:
  """The format's name, by the first element that shows it; None for an unknown format."""
  reader = Reader(path)
  if reader.is_object:
    key = next(reader.members(), None)
    if key in ("meta_info", "instance_info"):
      return "mmpose"
    first = reader.value() if key is not None else None
    if isinstance(first, dict) and {"people", "bodies"} & set(first):
      return "alphapose"
    return "openpose" if key in ("version", "people", "bodies") else None
  name = "mmpose_inferencer"  # an empty list is an image without people
  for element in reader.elements():
    name = "mediapipe"
    if element:
      return name if isinstance(element, list) else _recognise_element(element)
  return name


def _recognise_element(element: Any) -> str | None:
  """The format's name by the first element of a list that is not a list."""
  fields = set(element) if isinstance(element, dict) else set()
  if "image_id" in fields:
    return "alphapose" if isinstance(element["image_id"], str) or "idx" in fields else "coco_results"
  return "mmpose_inferencer" if {"instances", "keypoint_scores"} & fields else None
