"""Keypoints in JSON files: OpenPose and ControlNet, AlphaPose, COCO, MMPose, MediaPipe, TF.js, Ultralytics, and lists.

`read` takes all forms but COCO's annotations (`coco`). A file holds frames: a list of them, one a line, or an object of
them by name. A frame holds people, and a person joints, under any of the names in HOLDERS or as lists in lists.
Readers are `(path, layout or None) -> list of Detections`. They hold one frame at a time and skip the fields that they
do not need. A missing field is a ValueError that names the file and the frame.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from posynda_jax.interop.keypoints import fields, joint_names
from posynda_jax.interop.keypoints.detections import Collector, Detections
from posynda_jax.interop.keypoints.json_stream import Reader

# `dataset_name` in MMPose's `meta_info` -> layout. Where a skeleton has not 17 joints, their number gives the layout.
_MMPOSE_17 = {"coco": "coco17", "h36m": "h36m17", "mpi_inf_3dhp": "dhp17"}
_OTHER = "not of this format, see --format"
ARRAYS = ("keypoints", *joint_names.SCORES[:8])  # fields of a file with one array each over all frames
LISTS = ("frames", "data", "results", "instance_info", "predictions")  # fields of a file with a list of its frames
_PEOPLE = ("people", "bodies", "persons", "poses", "instances", "instance_info", "predictions", "detections")
HOLDERS = _PEOPLE + (  # fields with people or joints, the first of which counts
    "pose_keypoints_2d", "pose_keypoints", "joints", "keypoints", "landmark", "landmarks", "pose_landmarks",
    "poseLandmarks", "pose", "skeleton",
)
_CANVAS = tuple(("canvas_" + axis, axis, "image_" + axis, "video_" + axis) for axis in ("width", "height"))
_ABOUT = ("video_info", "metadata", "info", "video")  # fields of a file with facts about its video
_MOST_AXES = 5  # numbers of one joint


def field(entry: Any, name: str, where) -> Any:
  if not isinstance(entry, dict):
    raise ValueError(f"{where} is a {type(entry).__name__}, expected an object with {name!r}: {_OTHER}")
  if name not in entry:
    raise ValueError(f"{where} has no {name!r}: {_OTHER}")
  return entry[name]


def _first(entry: dict, names) -> Any:
  return next((entry[name] for name in names if entry.get(name) is not None), None)


def is_joint(value: Any) -> bool:
  """Whether a value is one joint: {x, y}, {position: {x, y}} or a few numbers."""
  if isinstance(value, dict):  # a person may have the x and y of a box
    is_point = {"x", "y"} <= set(value) and not isinstance(value["x"], list) or isinstance(value.get("position"), dict)
    return is_point and not any(name in value for name in HOLDERS)
  return isinstance(value, list) and 2 <= len(value) <= _MOST_AXES and all(
      one is None or fields.is_number(one) for one in value)


def _is_of_people(scores: Any, count: int) -> bool:
  """Whether scores are a list for each of `count` people."""
  return isinstance(scores, list) and len(scores) == count and all(isinstance(one, list) for one in scores)


def _people(value: Any, context: dict, where: str) -> Iterator[tuple[Any, dict]]:
  """(joints, the fields around them) of each person in a frame, however deep they are."""
  if isinstance(value, dict):
    name = next((name for name in HOLDERS if value.get(name) is not None), None)
    named = {key: joint for key, joint in value.items() if is_joint(joint)} if name is None else {}
    if name is not None:
      yield from _people(value[name], context | value, where)
    elif isinstance(value.get("x"), list):
      yield value, context
    elif joint_names.find(list(named)):
      joints = (joint if isinstance(joint, dict) else dict(zip("xys", joint)) for joint in named.values())
      scores = next((one for one in joint_names.scores_of(context | value) if isinstance(one, dict)), {})
      yield [{"s": scores.get(key, 1)} | joint | {"name": key} for key, joint in zip(named, joints)], context | value
    elif not any(name in value for name in HOLDERS):
      raise ValueError(f"{where} has no 'keypoints' but {', '.join(map(repr, list(value)[:5])) or 'nothing'}: {_OTHER}")
  elif isinstance(value, list):
    first = next((one for one in value if one is not None), None)
    if is_joint(first) or fields.is_number(first) or isinstance(first, str):
      yield value, context
    else:
      scores = [name for name in joint_names.score_words(context) if _is_of_people(context[name], len(value))]
      for i, one in enumerate(value):
        yield from _people(one, context | {name: context[name][i] for name in scores}, where)
  elif value is not None:
    raise ValueError(f"{where} is a {type(value).__name__}, expected a list of people: {_OTHER}")


def _add_person(collector: Collector, frame, joints: Any, context: dict, where: str) -> None:
  if isinstance(joints, dict):  # lists of x, of y and of scores
    joints, context = list(map(list, zip(joints["x"], field(joints, "y", where), strict=True))), context | joints
  if isinstance(joints[0], list) and len(joints[0]) > 2 and all(
      (joint or [None])[0] == i for i, joint in enumerate(joints)):
    joints = [joint[1:] for joint in joints]  # their first number only counts them
  scores = None if isinstance(joints[0], dict) else _scores(joints, context)
  names = fields.first(context, fields.NAMES, of=list) or collector.joints
  if isinstance(joints[0], dict):
    depths = [joint.get("position", joint).get("z") for joint in joints]
    names, joints = [str(_name_of(joint)) for joint in joints], [_point(joint, where) for joint in joints]
    if all(map(fields.is_number, depths)):
      collector.see_depths([depths], [joints])
    joints = collector.place(joints, names)
  elif names:
    is_flat = not isinstance(joints[0], list)  # x, y, score of all joints in one list
    if is_flat and len(joints) % len(names):
      raise ValueError(f"{where} has {len(joints)} numbers for {len(names)} names of joints")
    rows = np.reshape(joints, (len(names), -1)).tolist() if is_flat else joints
    rows = _landmarks(rows) if len(rows[0]) > 3 else rows
    joints, scores = collector.place_scored(rows, scores, list(map(str, names)))
  elif isinstance(joints[0], list) and len(joints) == 33 and len(joints[0]) > 2:
    joints = _landmarks(joints) if scores is None else [joint[:2] for joint in joints]
  elif scores is not None and not isinstance(joints[0], list):
    joints = np.reshape(joints, (len(scores), -1)).tolist()
  canvas = _size(context, [names[:1] for names in _CANVAS])
  numbers = (("trackid", "personid|idx"), (*fields.NUMBER, list)), (fields.PERSON, int)
  person = next((it for keys, of in numbers if (it := fields.first(context, *keys, of=of)) is not None), None)
  collector.add(frame, joints, scores, person, canvas)


def _size(about: dict, names) -> tuple[float, float] | None:
  """Width and height that fields of these names give; None without both."""
  size = [_first(about, its) for its in names]
  return tuple(map(float, size)) if all(fields.is_number(length) and length > 0 for length in size) else None


def _name_of(joint: dict) -> Any:
  """The name of a joint {x, y, ...}, or its number; empty without one."""
  found = fields.first(joint, "name", "label", *fields.JOINT, of=(str, int))
  return (fields.first(joint, "type|class", of=str) or "") if found is None else found


def _scores(joints: list, context: dict) -> list | None:
  """The list of the joints' scores in fields around them: boxes' have another length, flags yield to joints' own."""
  is_flat = not isinstance(joints[0], list)
  lists = [one for one in joint_names.scores_of(context) if isinstance(one, list)]
  for values in map(np.ravel, lists):
    axes = len(joints) / max(len(values), 1) if is_flat else len(joints[0]) * (len(values) == len(joints))
    if values.dtype.kind != "U" and (axes == 2 or 3 <= axes <= _MOST_AXES and not set(values) <= {0, 1, 2}):
      return values.tolist()
  has_own = len(joints) % 3 == 0 if is_flat else len(joints[0]) > 2
  return None if has_own else next((one for one in joint_names.scores_of(context, 6) if isinstance(one, list)), None)


def _point(joint: dict, where: str) -> list:
  """x, y, score of a joint {x, y, ...}."""
  at = joint.get("position", joint)
  score = next((one for one in joint_names.scores_of(joint) if isinstance(one, int | float) or _is_numeral(one)), 1)
  return [field(at, "x", where), field(at, "y", where), score]


def _is_numeral(value: Any) -> bool:
  return isinstance(value, str) and re.fullmatch(r"-?\d*\.?\d+(e-?\d+)?", value) is not None


def _landmarks(joints: list[list]) -> list[list]:
  """x, y, score of MediaPipe's x, y, z, visibility, or x, y, visibility. A visibility, which may be a percentage, is
  negative in no joint, and z, which is relative to the hips, in some.
  """
  last = [joint[min(len(joint), 4) - 1] for joint in joints]
  is_score = len(joints[0]) > 3 or any(last) and all(one in (None, -1) or 0 <= one <= 100 for one in last)
  return [[*joint[:2], score if is_score else 1] for joint, score in zip(joints, last, strict=True)]


def add_frame(collector: Collector, frame, document: Any) -> None:
  """Adds the people in one frame of any detector. `frame` is its number or the image's name."""
  if isinstance(document, dict) and "meta_info" in document:
    _name_mmpose_layout(collector, document["meta_info"])
  if isinstance(document, dict) and any(isinstance(document.get(name), list) for name in _PEOPLE):
    collector.resolution = collector.resolution or _size(document, _CANVAS)
  where = collector.where(frame)
  collector.list_frame(frame)
  for joints, context in _people(document, {}, where):
    _add_person(collector, frame, joints, context, where)


def _number(collector: Collector, entry: Any, place: int, first: int):
  """The frame of an entry: as its fields say, and else its place in the list. People of one image are in frame 0."""
  if not isinstance(entry, dict):
    return place
  if (video := fields.first(entry, fields.VIDEO, of=(str, int))) is not None:
    collector.videos.add(str(video))
  frames = (fields.first(entry, *fields.FRAME_OF_ENTRY, of=of) for of in (fields.NUMBER, object))  # ROS names frames
  if (frame := next((one for one in frames if one is not None), None)) is not None:
    return frame - first if fields.is_number(frame) else frame
  times = (fields.first(entry, fields.TIME_OF_ENTRY, of=of) for of in (fields.NUMBER, str))
  time = next((one for one in times if one is not None), None)
  forms = fields.IMAGE_OF_ENTRY[: 1 if time is not None else 2]  # beside a time a number may be the video's
  images = (fields.first(entry, keys, of=(str, int), form=form) for keys, form in forms)
  if (image := next((one for one in images if one is not None), None)) is not None:
    return str(image)
  if time is not None:
    collector.times = True
    return float(time) if fields.is_number(time) else time
  joints = entry.get("keypoints") or [{}]
  is_person = isinstance(joints, dict) or not isinstance(joints[0], dict) and (
      fields.is_number(joints[0]) or is_joint(joints[0]))
  return 0 if is_person else place


def read(path, layout=None, names: tuple[str, ...] = ()) -> list[Detections]:
  """The people in the frames of a JSON file, whose joints may have `names`. A list of names that the file has after its
  frames is known in a second reading.
  """
  collector, reader, about = Collector(path, layout), Reader(path), {}
  collector.joints = list(names)
  for place, (name, entry, first) in enumerate(_frames(collector, reader, about)):
    add_frame(collector, _number(collector, entry, place, first) if name is None else name, entry)
  if about.get("late"):
    return read(path, layout, tuple(collector.joints))
  said = {"fps": float(about["fps"])} if fields.is_number(about.get("fps")) and about["fps"] > 0 else {}
  size = _size(about, _CANVAS)
  return collector.finish(**said | ({"resolution": size} if size else {}))


def _frames(collector: Collector, reader: Reader, about: dict) -> Iterator[tuple[str | None, Any, int]]:
  """(name or None, frame, number of the first frame) of a file. Fields of the whole file go into `about`."""
  if not reader.is_object:
    yield from ((None, entry, 0) for entry in reader.elements())
    return
  arrays, whole = {}, {}
  for key in reader.members():
    if key in LISTS and reader.is_list:
      yield from ((None, entry, int(key == "instance_info")) for entry in reader.elements())
    elif key in ARRAYS and reader.is_list:
      arrays[key] = [np.array(one, np.float32) for one in reader.elements()]
    elif key in HOLDERS:
      whole[key] = reader.value()
    elif key == "meta_info":
      _name_mmpose_layout(collector, reader.value())
    elif key in sum(_CANVAS, ("fps",)):
      about[key] = reader.value()
    elif key in _ABOUT:
      found = value if isinstance(value := reader.value(), dict) else {}
      about |= {name: found[name] for name in found if name in sum(_CANVAS, ("fps",))}
    elif fields.matches(key, fields.NAMES) and reader.is_list:
      listed = list(map(str, reader.elements()))
      about["late"] = bool(listed) and collector.has_any and not collector.joints  # after frames that were read without
      collector.joints = listed or collector.joints
    elif is_name(key):
      yield key, reader.value(), 0
    else:
      reader.value()
  if whole:
    yield None, about | whole, 0
  scores = next(joint_names.scores_of(arrays), None)
  for place, joints in enumerate(arrays.get("keypoints", ())):
    yield None, {"instances": joints.tolist(), "scores": None if scores is None else scores[place].tolist()}, 0


def is_name(key: str) -> bool:
  """Whether a key of the whole document names a frame."""
  return any(sign.isdigit() or sign in "./" for sign in key)


def _name_mmpose_layout(collector: Collector, meta: Any) -> None:
  """Tells the collector which 17 joints the file has. Raises ValueError for unknown ones."""
  if collector.layout is None and isinstance(meta, dict) and meta.get("num_keypoints") == 17:
    if (name := meta.get("dataset_name")) not in _MMPOSE_17:
      what = f"the 17 joints of {name!r}, known are {', '.join(_MMPOSE_17)}"
      raise ValueError(f"{collector.label} has {what}: name the layout with --layout")
    collector.name_layout(_MMPOSE_17[name])
