"""Keypoints in JSON files: OpenPose and ControlNet, AlphaPose, COCO, MMPose, MediaPipe, Ultralytics, skeleton datasets.

Every reader is `(path, layout or None) -> list of Detections`. Readers hold one element of a file at a time and skip
the fields that they do not need. A missing field is a ValueError that names the file and the frame.
"""

import itertools
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
  size = _canvas(document)
  for person in _list(_field(document, key, where), where):
    known = ("pose_keypoints_2d", "pose_keypoints", "joints")
    name = next((name for name in known if isinstance(person, dict) and name in person), known[0])
    keypoints = _field(person, name, where)
    number = person.get("person_id", -1)
    number = number[0] if isinstance(number, list) and number else number
    if keypoints:  # empty where only a face or a hand was found
      number = number if isinstance(number, int) and number >= 0 else None
      collector.add(frame, keypoints, person=number, canvas=size)


def _canvas(document: Any) -> tuple[float, float] | None:
  """Width and height (px) that ControlNet's editors write into a frame; None without them."""
  names = ("canvas_width", "canvas_height")
  if not isinstance(document, dict) or not all(isinstance(document.get(name), int | float) for name in names):
    return None
  return tuple(float(document[name]) for name in names)


def openpose_frames(path, layout=None) -> list[Detections]:
  """A list of OpenPose's frames in one file, as ControlNet's nodes write them."""
  collector, number = Collector(path, layout), 0
  for number, document in enumerate(Reader(path).elements(), 1):
    add_people(collector, number - 1, document)
  return collector.finish(num_frames=number)


def alphapose(path, layout=None) -> list[Detections]:
  """AlphaPose's results, a list of detections by `image_id`, {image: {"people"|"bodies": [...]}}, or {image: [person,
  ...]} as PoseFlow writes it; COCO results.
  """
  collector, reader = Collector(path, layout), Reader(path)
  if reader.is_object:
    for image in reader.members():
      people = reader.value()
      collector.name(image)
      if isinstance(people, dict):
        add_people(collector, image, people)
        continue
      for person in _list(people, f"{path}, frame {image}"):
        collector.add(image, _field(person, "keypoints", f"{path}, frame {image}"), person=person.get("idx"))
  else:
    for entry in reader.elements():
      frame = _field(entry, "image_id", path)
      collector.add(frame, _field(entry, "keypoints", f"{path}, frame {frame}"), person=entry.get("idx"))
  return collector.finish()


def coco_annotations(path, layout=None) -> list[Detections]:
  """A COCO annotation file: `images` and `annotations` with x, y and v, where v = 0 means not labelled."""
  collector, reader, images, found = Collector(path, layout), Reader(path), {}, []
  for key in reader.members():
    if key == "images":
      for image in reader.elements():
        size = _field(image, "width", path), _field(image, "height", path)
        images[_field(image, "id", path)] = str(image.get("file_name", image["id"])), size
    elif key == "annotations":
      found = [entry for entry in reader.elements() if entry.get("keypoints")]
    else:
      reader.value()
  sizes = {images[_field(entry, "image_id", path)][1] for entry in found if entry["image_id"] in images}
  if len(sizes) > 1:
    raise ValueError(f"{path} has images of {len(sizes)} sizes: keep those of one video")
  for name, _ in images.values():
    collector.name(name)
  for entry in found:
    if entry["image_id"] not in images:
      raise ValueError(f"{path}: annotation of image {entry['image_id']!r}, which `images` does not list")
    collector.add(images[entry["image_id"]][0], entry["keypoints"], person=entry.get("track_id"))
  return collector.finish(resolution=tuple(map(float, sizes.pop())) if sizes else None)


def ultralytics(path, layout=None) -> list[Detections]:
  """Ultralytics' `to_json`: a list of people with `keypoints` {x, y, visible}, or a list of such lists, one a frame."""
  collector, number = Collector(path, layout), 0
  for number, entry in enumerate(Reader(path).elements(), 1):
    is_frame = isinstance(entry, list)
    for person in entry if is_frame else [entry]:
      frame = number - 1 if is_frame else 0
      where = f"{path}, frame {frame}"
      joints = _field(person, "keypoints", where)
      pairs = list(zip(_field(joints, "x", where), _field(joints, "y", where), strict=True))
      collector.add(frame, pairs, joints.get("visible") or [1.0] * len(pairs), person.get("track_id"))
  return collector.finish(num_frames=number, normalised=collector.are_shares)


def skeletons(path, layout=None) -> list[Detections]:
  """Skeletons of action recognition: {"data": [{frame_index, "skeleton": [{pose, score}, ...]}]}, px or shares."""
  collector, reader, number = Collector(path, layout), Reader(path), 0
  for key in reader.members():
    if key != "data":
      reader.value()
      continue
    for entry in reader.elements():
      frame = _field(entry, "frame_index", path)
      where = f"{path}, frame {frame}"
      for person in _list(_field(entry, "skeleton", where), where):
        collector.add(frame, _field(person, "pose", where), _field(person, "score", where))
      number = max(number, frame + 1)
  return collector.finish(num_frames=number, normalised=collector.are_shares)


def add_instances(collector: Collector, frame, instances: Any) -> None:
  """Adds one frame of MMPose: people with `keypoints` [[x, y], ...] and `keypoint_scores`."""
  where = f"{collector.label}, frame {frame}"
  if isinstance(instances, dict) and "instance_info" in instances:  # the file of one image of MMPose's demo
    instances = instances["instance_info"]
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
  return collector.finish(num_frames=number)


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
  return collector.finish(num_frames=_add_frames(collector, Reader(path), 0))


def mediapipe(path, layout=None) -> list[Detections]:
  """MediaPipe: for each frame 33 {x, y, z, visibility}, a list of people with 33 each, or null for nobody; or such
  lists in objects {frame, landmarks}.
  """
  collector, number = Collector(path, layout or "mediapipe33"), 0
  for place, entry in enumerate(Reader(path).elements()):
    frame, people = place, entry
    if isinstance(entry, dict):
      frame = next((entry[name] for name in _FRAME if name in entry), place)
      people = next((entry[name] for name in _LANDMARKS if name in entry), None)
    where = f"{path}, frame {frame}"
    people = _list([] if people is None else people, where)
    if people and not isinstance(people[0], list):
      people = [people]
    for person in people:
      joints = [[_field(p, "x", where), _field(p, "y", where), p.get("visibility", 1)] for p in person]
      collector.add(frame, joints)
    number = max(number, frame + 1 if isinstance(frame, int) else 0)
  return collector.finish(num_frames=number, normalised=collector.are_shares)


def recognise(path) -> str | None:
  """The format's name, by the first element that shows it; None for an unknown format."""
  reader = Reader(path)
  if not reader.is_object:
    name = "mmpose_inferencer"  # an empty list is an image without people
    for element in itertools.islice(reader.elements(), 100_000):  # half an hour without people
      name = "mediapipe"
      if element:
        return _recognise_list(element) if isinstance(element, list) else _recognise_element(element)
    return name
  for key in reader.members():
    if key in _BY_KEY:
      return _BY_KEY[key]
    first = reader.value()
    if "/" in key or "." in key:  # images' names
      people = first[0] if isinstance(first, list) and first else first
      is_person = isinstance(people, dict) and {"people", "bodies", "keypoints"} & set(people)
      return "alphapose" if is_person or first == [] else None
    if isinstance(first, dict) and {"people", "bodies"} & set(first):
      return "alphapose"
  return None


_FRAME = ("frame", "frame_id", "frame_index", "frame_number", "frameNumber")
_LANDMARKS = ("landmarks", "pose_landmarks", "poseLandmarks", "pose", "keypoints")
_BY_KEY = {  # a key of the whole document -> format
    "meta_info": "mmpose", "instance_info": "mmpose", "version": "openpose", "people": "openpose",
    "bodies": "openpose", "annotations": "coco_annotations", "data": "skeletons",
}


def _recognise_list(element: list) -> str:
  """The format's name by the first frame of a list of frames."""
  keypoints = element[0].get("keypoints") if isinstance(element[0], dict) else None
  return "ultralytics" if isinstance(keypoints, dict) else "mediapipe"


def _recognise_element(element: Any) -> str | None:
  """The format's name by the first element of a list that is not a list."""
  fields = set(element) if isinstance(element, dict) else set()
  if "image_id" in fields:
    return "alphapose" if isinstance(element["image_id"], str) or "idx" in fields else "coco_results"
  if "people" in fields:
    return "openpose"
  if isinstance(element, dict) and isinstance(element.get("keypoints"), dict):
    return "ultralytics"
  if {"landmarks", "pose_landmarks", "poseLandmarks"} & fields:
    return "mediapipe"
  return "mmpose_inferencer" if {"instances", "keypoint_scores"} & fields else None
