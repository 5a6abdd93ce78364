"""Which format a JSON file has, by the first of its frames that shows it."""

import itertools
from typing import Any

from posynda_jax.interop.keypoints import documents
from posynda_jax.interop.keypoints.json_stream import Reader


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
    if key == "columns":
      name = "data_frame"
    if key in _BY_KEY:
      return name if (name, key) == ("data_frame", "data") else _BY_KEY[key]
    if key in documents.LISTS + documents.ARRAYS and reader.is_list:
      return next((_name(frame) for frame in reader.elements() if frame), "json") or "json"
    value = reader.value()
    if key in documents.HOLDERS:
      return _name({key: value})
    if documents.is_name(key):
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
  is_person = known is None and any(field in element for field in documents.HOLDERS)
  return "json" if is_person or len([1 for one in element.values() if documents.is_joint(one)]) >= 6 else known
