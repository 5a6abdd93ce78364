"""Keypoints in JSON files: OpenPose and ControlNet, AlphaPose, COCO, MMPose, MediaPipe, TF.js, Ultralytics, and lists.

`read` takes all forms but COCO's annotations. A file holds frames: a list of them, one a line, or an object of them by
name. A frame holds people, and a person joints, under any of the names in _HOLDERS or as lists in lists. Readers are
`(path, layout or None) -> list of Detections`. They hold one frame at a time and skip the fields that they do not need.
A missing field is a ValueError that names the file and the frame.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from posynda_jax.interop.keypoints import joint_names
from posynda_jax.interop.keypoints.detections import Collector, Detections
from posynda_jax.interop.keypoints.json_stream import Reader

# `dataset_name` in MMPose's `meta_info` -> layout. Where a skeleton has not 17 joints, their number gives the layout.
_MMPOSE_17 = {"coco": "coco17", "h36m": "h36m17", "mpi_inf_3dhp": "dhp17"}
_OTHER = "not of this format, see --format"
LISTS = ("frames", "data", "results", "instance_info", "predictions")  # fields of a file with a list of its frames
_ARRAYS = ("keypoints", "scores", "keypoint_scores")  # fields of a file with one array each over all frames
FRAME = (
    "image_id", "frame", "frame_id", "frame_idx", "frame_index", "frame_number", "frameNumber", "frameIndex", "frameId",
    "image_name",
)
_IMAGE = ("image", "image_path", "img_name", "file_name", "filename")  # which also name videos
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
TIME = ("timestamp_ms", "timestampMs", "timestamp", "time_ms", "time")
_HOLDERS = (  # fields with people or joints, the first of which counts
    "people", "bodies", "persons", "poses", "instances", "instance_info", "predictions", "detections",
    "pose_keypoints_2d", "pose_keypoints", "joints", "keypoints", "landmark", "landmarks", "pose_landmarks",
    "poseLandmarks", "pose", "skeleton",
)
_PERSON = ("track_id", "person_id", "idx")
_CANVAS = (("canvas_width", "width"), ("canvas_height", "height"))
_MOST_AXES = 5  # numbers of one joint


def _field(entry: Any, name: str, where) -> Any:
  if not isinstance(entry, dict):
    raise ValueError(f"{where} is a {type(entry).__name__}, expected an object with {name!r}: {_OTHER}")
  if name not in entry:
    raise ValueError(f"{where} has no {name!r}: {_OTHER}")
  return entry[name]


def _first(entry: dict, names) -> Any:
  return next((entry[name] for name in names if entry.get(name) is not None), None)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _is_joint(value: Any) -> bool:
  """Whether a value is one joint: {x, y}, {position: {x, y}} or a few numbers."""
  if isinstance(value, dict):
    return {"x", "y"} <= set(value) and not isinstance(value["x"], list) or isinstance(value.get("position"), dict)
  return isinstance(value, list) and 2 <= len(value) <= _MOST_AXES and all(
      one is None or _is_number(one) for one in value)


def _is_of_people(scores: Any, count: int) -> bool:
  """Whether scores are a list for each of `count` people."""
  return isinstance(scores, list) and len(scores) == count and all(isinstance(one, list) for one in scores)


def _people(value: Any, context: dict, where: str) -> Iterator[tuple[Any, dict]]:
  """(joints, the fields around them) of each person in a frame, however deep they are."""
  if isinstance(value, dict):
    name = next((name for name in _HOLDERS if value.get(name) is not None), None)
    named = {key: joint for key, joint in value.items() if _is_joint(joint)} if name is None else {}
    if name is not None:
      yield from _people(value[name], context | value, where)
    elif isinstance(value.get("x"), list):
      yield value, context
    elif joint_names.find(list(named)):
      joints = (joint if isinstance(joint, dict) else dict(zip("xys", joint)) for joint in named.values())
      yield [joint | {"name": key} for key, joint in zip(named, joints)], context | value
    elif not any(name in value for name in _HOLDERS):
      raise ValueError(f"{where} has no 'keypoints' but {', '.join(map(repr, list(value)[:5])) or 'nothing'}: {_OTHER}")
  elif isinstance(value, list):
    first = next((one for one in value if one is not None), None)
    if _is_joint(first) or _is_number(first) or isinstance(first, str):
      yield value, context
    else:
      scores = {name: context[name] for name in joint_names.SCORES if _is_of_people(context.get(name), len(value))}
      for i, one in enumerate(value):
        yield from _people(one, context | {name: lists[i] for name, lists in scores.items()}, where)
  elif value is not None:
    raise ValueError(f"{where} is a {type(value).__name__}, expected a list of people: {_OTHER}")


def _add_person(collector: Collector, frame, joints: Any, context: dict, where: str) -> None:
  if isinstance(joints, dict):  # lists of x, of y and of scores
    joints, context = list(map(list, zip(joints["x"], _field(joints, "y", where), strict=True))), context | joints
  scores = None if isinstance(joints[0], dict) else _scores(joints, context)
  if isinstance(joints[0], dict):
    names = [str(joint.get("name") or joint.get("part", "")) for joint in joints]
    joints = collector.place([_point(joint, where) for joint in joints], names)
  elif isinstance(joints[0], list) and len(joints) == 33 and len(joints[0]) > 2:
    joints = _landmarks(joints) if scores is None else [joint[:2] for joint in joints]
  elif scores is not None and not isinstance(joints[0], list):
    joints = np.reshape(joints, (len(scores), -1)).tolist()
  size = [context.get(name) for name, _ in _CANVAS]
  canvas = tuple(map(float, size)) if all(map(_is_number, size)) else None
  collector.add(frame, joints, scores, _first(context, _PERSON), canvas)


def _scores(joints: list, context: dict) -> list | None:
  """The list of the joints' scores in fields around them: boxes' have another length, flags yield to joints' own."""
  is_flat = not isinstance(joints[0], list)
  lists = {name: context[name] for name in joint_names.SCORES if isinstance(context.get(name), list)}
  for values in map(np.ravel, lists.values()):
    axes = len(joints) / max(len(values), 1) if is_flat else len(joints[0]) * (len(values) == len(joints))
    if values.dtype.kind != "U" and (axes == 2 or 3 <= axes <= _MOST_AXES and not set(values) <= {0, 1, 2}):
      return values.tolist()
  has_own = len(joints) % 3 == 0 if is_flat else len(joints[0]) > 2
  return None if has_own else next((lists[name] for name in joint_names.SCORES[:4] if name in lists), None)


def _point(joint: dict, where: str) -> list:
  """x, y, score of a joint {x, y, ...}."""
  at = joint.get("position", joint)
  score = next((joint[name] for name in joint_names.SCORES if isinstance(joint.get(name), int | float)), 1)
  return [_field(at, "x", where), _field(at, "y", where), score]


def _landmarks(joints: list[list]) -> list[list]:
  """x, y, score of MediaPipe's x, y, z, visibility, or x, y, visibility: z, relative to the hips, is negative in some
  joints, and a visibility, which may be a percentage, in none.
  """
  last = [joint[min(len(joint), 4) - 1] for joint in joints]
  is_score = len(joints[0]) > 3 or any(last) and all(one in (None, -1) or 0 <= one <= 100 for one in last)
  return [[*joint[:2], score if is_score else 1] for joint, score in zip(joints, last, strict=True)]


def add_frame(collector: Collector, frame, document: Any) -> None:
  """Adds the people in one frame of any detector. `frame` is its number or the image's name."""
  if isinstance(document, dict) and "meta_info" in document:
    _name_mmpose_layout(collector, document["meta_info"])
  where = collector.where(frame)
  collector.list_frame(frame)
  for joints, context in _people(document, {}, where):
    _add_person(collector, frame, joints, context, where)


def _number(collector: Collector, entry: Any, place: int, first: int):
  """The frame of an entry: as its fields say, and else its place in the list. People of one image are in frame 0."""
  if not isinstance(entry, dict):
    return place
  if (frame := _first(entry, FRAME)) is not None:
    return frame - first if _is_number(frame) else frame
  if str(image := _first(entry, _IMAGE)).lower().endswith(_IMAGES):
    return str(image)
  if (time := _first(entry, TIME)) is not None:
    collector.times = True
    return float(time) if _is_number(time) else time
  joints = entry.get("keypoints") or [{}]
  is_person = isinstance(joints, dict) or not isinstance(joints[0], dict) and (
      _is_number(joints[0]) or _is_joint(joints[0]))
  return 0 if is_person else place


def read(path, layout=None) -> list[Detections]:
  """The people in the frames of a JSON file."""
  collector, reader, about = Collector(path, layout), Reader(path), {}
  for place, (name, entry, first) in enumerate(_frames(collector, reader, about)):
    add_frame(collector, _number(collector, entry, place, first) if name is None else name, entry)
  said = {"fps": float(about["fps"])} if _is_number(about.get("fps")) and about["fps"] > 0 else {}
  size = [_first(about, names) for names in _CANVAS]
  if all(_is_number(length) and length > 0 for length in size):
    said["resolution"] = tuple(map(float, size))
  return collector.finish(**said)


def _frames(collector: Collector, reader: Reader, about: dict) -> Iterator[tuple[str | None, Any, int]]:
  """(name or None, frame, number of the first frame) of a file. Fields of the whole file go into `about`."""
  if not reader.is_object:
    yield from ((None, entry, 0) for entry in reader.elements())
    return
  arrays, whole = {}, {}
  for key in reader.members():
    if key in LISTS and reader.is_list:
      yield from ((None, entry, int(key == "instance_info")) for entry in reader.elements())
    elif key in _ARRAYS and reader.is_list:
      arrays[key] = [np.array(one, np.float32) for one in reader.elements()]
    elif key in _HOLDERS:
      whole[key] = reader.value()
    elif key == "meta_info":
      _name_mmpose_layout(collector, reader.value())
    elif key in sum(_CANVAS, ("fps",)):
      about[key] = reader.value()
    elif _is_name(key):
      yield key, reader.value(), 0
    else:
      reader.value()
  if whole:
    yield None, about | whole, 0
  scores = arrays.get("scores", arrays.get("keypoint_scores"))
  for place, joints in enumerate(arrays.get("keypoints", ())):
    yield None, {"instances": joints.tolist(), "scores": None if scores is None else scores[place].tolist()}, 0


def _is_name(key: str) -> bool:
  """Whether a key of the whole document names a frame."""
  return any(sign.isdigit() or sign in "./" for sign in key)


def _name_mmpose_layout(collector: Collector, meta: Any) -> None:
  """Tells the collector which 17 joints the file has. Raises ValueError for unknown ones."""
  if collector.layout is None and isinstance(meta, dict) and meta.get("num_keypoints") == 17:
    if (name := meta.get("dataset_name")) not in _MMPOSE_17:
      what = f"the 17 joints of {name!r}, known are {', '.join(_MMPOSE_17)}"
      raise ValueError(f"{collector.label} has {what}: name the layout with --layout")
    collector.name_layout(_MMPOSE_17[name])


def coco_annotations(path, layout=None) -> list[Detections]:
  """A COCO annotation file: `images` and `annotations` with x, y and v, where v = 0 means not labelled. The names in
  `categories` order the joints.
  """
  collector, reader, images, found, names = Collector(path, layout), Reader(path), {}, [], {}
  for key in reader.members():
    if key == "images":
      for image in reader.elements():
        size = _field(image, "width", path), _field(image, "height", path)
        images[_field(image, "id", path)] = str(image.get("file_name", image["id"])), size
    elif key == "annotations":
      found = [entry for entry in reader.elements() if entry.get("keypoints")]
    elif key == "categories" and reader.is_list:
      names = {one.get("id"): list(map(str, one["keypoints"])) for one in reader.elements() if one.get("keypoints")}
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
    joints, only = entry["keypoints"], next(iter(names.values()), None) if len(names) == 1 else None
    if own := names.get(entry.get("category_id"), only):
      joints = collector.place([joints[i : i + 3] for i in range(0, len(joints), 3)], own)
    collector.add(images[entry["image_id"]][0], joints, person=entry.get("track_id"))
  return collector.finish(resolution=tuple(map(float, sizes.pop())) if sizes else None)


def recognise(path) -> str | None:
  """The format's name, by the first frame that shows it; None for an unknown format."""
  reader, name = Reader(path), None
  if not reader.is_object:
    name = "mmpose_inferencer"  # an empty list is an image without people
    for element in itertools.islice(reader.elements(), 100_000):  # half an hour without people
      name = "mediapipe"
      if element:
        return _name(element)
    return name
  for key in reader.members():
    if key in _BY_KEY:
      return _BY_KEY[key]
    if key in LISTS + _ARRAYS and reader.is_list:
      return next((_name(frame) for frame in reader.elements() if frame), "json") or "json"
    value = reader.value()
    if key in _HOLDERS:
      return _name({key: value})
    if _is_name(key):
      name = "alphapose"
      if value:
        return "alphapose" if (found := _name(value)) and ("." in key or "/" in key) else found
  return name


_BY_KEY = {  # a key of the whole document -> format
    "meta_info": "mmpose", "instance_info": "mmpose", "version": "openpose", "people": "openpose",
    "bodies": "openpose", "annotations": "coco_annotations", "categories": "coco_annotations", "data": "skeletons",
}
_BY_FIELD = {  # a field of a frame or a person -> format, the first of which counts
    "people": "openpose", "bodies": "openpose", "pose_keypoints_2d": "openpose", "landmarks": "mediapipe",
    "pose_landmarks": "mediapipe", "poseLandmarks": "mediapipe", "landmark": "mediapipe",
    "instances": "mmpose_inferencer", "keypoint_scores": "mmpose_inferencer",
}


def _name(element: Any) -> str | None:
  """The format's name by one frame or person; "json" for one that no detector writes so, None for neither."""
  if isinstance(element, list):
    if element and isinstance(element[0], dict) and {"x", "y"} <= set(element[0]):
      return "mediapipe"
    return next((_name(one) or "json" for one in element if isinstance(one, dict | list)), "json" if element else None)
  if not isinstance(element, dict):
    return None
  if "image_id" in element:
    return "alphapose" if isinstance(element["image_id"], str) or "idx" in element else "coco_results"
  if isinstance(element.get("keypoints"), dict):
    return "ultralytics"
  known = next((name for field, name in _BY_FIELD.items() if field in element), None)
  is_person = known is None and any(field in element for field in _HOLDERS)
  return "json" if is_person or len([1 for one in element.values() if _is_joint(one)]) >= 6 else known
