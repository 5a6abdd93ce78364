"""Every keypoint file that the tests read: how it is written, and what must come of it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from posynda_jax.interop.keypoints import recordings
from tests.interop import detector_files as files


class Written(NamedTuple):
  """How a file is written, and what must be read from it."""

  write: Callable
  format: str
  layout: str = "coco17"
  rule: str = "simple"
  digits: float = 0  # px that rounding in the file may cost
  scored: bool = True
  crowd: bool = True  # whether the file can hold several people


def of_json(name: str) -> Callable:
  return lambda path, frames: files.write_json(path, files.DOCUMENTS[name](frames))


def of_arrays(name: str) -> Callable:
  return lambda path, frames: files.write_npz(path, **files.ARRAYS[name](frames))


_HALPE136 = files.HALPE26 + files.FILLERS[:110]
_WHOLEBODY = {"names": files.COCO17 + files.FILLERS[:116], "dataset": "coco_wholebody"}
_OLD = {"names": files.COCO18, "key": "pose_keypoints", "person_id": False}
FORMATS = {
    "openpose": Written(files.write_openpose, "openpose", "body25", "body25", 1e-3),
    "openpose_old": Written(partial(files.write_openpose, **_OLD), "openpose", "coco18", digits=1e-3),
    "openpose_coco": Written(partial(files.write_openpose, names=files.COCO18), "openpose", "coco18", digits=1e-3),
    "alphapose": Written(files.write_alphapose, "alphapose"),
    "halpe26": Written(partial(files.write_alphapose, names=files.HALPE26), "alphapose", "halpe26", "halpe26"),
    "halpe136": Written(partial(files.write_alphapose, names=_HALPE136), "alphapose", "halpe136", "halpe26"),
    "alphapose_open": Written(files.write_alphapose_open, "alphapose", "coco18"),
    "alphapose_cmu": Written(partial(files.write_alphapose_open, group="bodies", key="joints"), "alphapose", "coco18"),
    "mmpose": Written(files.write_mmpose, "mmpose"),
    "mmpose_halpe": Written(
        partial(files.write_mmpose, names=files.HALPE26, dataset="halpe26"), "mmpose", "halpe26", "halpe26"),
    "wholebody": Written(partial(files.write_mmpose, **_WHOLEBODY), "mmpose", "wholebody133"),
    "inferencer": Written(of_json("inferencer"), "mmpose_inferencer"),
    "inferencer_images": Written(files.write_inferencer_images, "mmpose_inferencer"),
    "coco": Written(of_json("coco"), "coco_results"),
    "yolo": Written(files.write_yolo, "yolo", digits=2e-3),
    "yolo_full": Written(partial(files.write_yolo, conf=True, track=True), "yolo", digits=2e-3),
    "mediapipe": Written(of_json("mediapipe"), "mediapipe", "mediapipe33", crowd=False),
    "mediapipe_tasks": Written(of_json("mediapipe_tasks"), "mediapipe", "mediapipe33"),
    "mediapipe_npz": Written(of_arrays("mediapipe"), "mediapipe", "mediapipe33", crowd=False),
    "videopose3d": Written(files.write_videopose3d, "videopose3d", scored=False, crowd=False),
    "detectron": Written(files.write_detectron, "detectron"),
    "video_to_pose3d": Written(of_arrays("video_to_pose3d"), "video_to_pose3d", scored=False, crowd=False),
    "mhformer": Written(of_arrays("mhformer"), "mhformer", "h36m17", scored=False, crowd=False),
    "plain": Written(files.write_plain, "plain", crowd=False),
    "controlnet": Written(of_json("controlnet"), "openpose", "coco18"),
    "poseflow": Written(of_json("poseflow"), "alphapose"),
    "ultralytics": Written(of_json("ultralytics"), "ultralytics"),
    "coco_annotations": Written(files.write_coco_annotations, "coco_annotations"),
    "skeletons": Written(of_json("skeletons"), "skeletons", "coco18"),
    "keypoints_scores": Written(of_arrays("keypoints_scores"), "keypoints_scores"),
    "wide.csv": Written(files.write_csv, "csv", crowd=False),
    "long.csv": Written(partial(files.write_csv, long=True), "csv"),
    "zip": Written(files.write_zip, "openpose", "body25", "body25", 1e-3),
}


def write(name, path, seen):
  """The file of a format of one person who is in every frame, [T names 3]."""
  return FORMATS[name].write(path, [[person] for person in seen])


KNOWN = dict(resolution=(files.W, files.H), intrinsics=tuple(files.INTRINSICS.tolist()), fps=25.0)


def read(path, **options) -> list[recordings.Recording]:
  if path.name.startswith("plain"):
    options = {"layout": "coco17"} | options
  return recordings.read(path, recordings.Options(**KNOWN | options))


def read_one(path, **options) -> recordings.Recording:
  (only,) = read(path, **options)
  return only


def check(recording, seen, name, frames=slice(None)):
  """Asserts that a recording shows `seen` [T names 3] by the format's rule."""
  written = FORMATS[name]
  points, scores = files.expected(seen, written.rule)
  np.testing.assert_allclose(recording.record["keypoints_px"][frames], points, atol=written.digits + 3e-4)
  scores = scores if written.scored else np.ones_like(scores)
  np.testing.assert_allclose(recording.record["confidence"][frames], scores, atol=1e-3 if written.digits else 1e-6)
