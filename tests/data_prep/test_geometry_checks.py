"""Geometry checks: a correct body passes in any frame, and each known mistake gets its own message."""

import re

import numpy as np
import pytest

from data_prep import geometry_checks
from posynda_jax.datasets.synthetic_motion import body, families
from posynda_jax.geometry import camera, camera_tables, skeleton
from tests.datasets import dummy

LENS = np.array(camera_tables.H36M_INTRINSICS["54138969"][1], np.float32)
FLIP = dummy.mirrored(skeleton.JOINTS)


def walker(family: str = "locomotion", seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return families.draw_motion(rng, body.draw_body(rng, body.BodyRange()), family, 60, 50.0)


@pytest.fixture(scope="module")
def projected():
  """(poses [t 17 3] in the camera's frame, keypoints [t 17 2] px)."""
  poses = (walker() * [1, -1, -1] + [0.3, 0.9, 4.5]).astype(np.float32)
  return poses, np.asarray(camera.project(poses, LENS))


def check(poses, keypoints, valid):
  return geometry_checks.check_reprojection(poses, keypoints, LENS, valid, "file", 0.05)


@pytest.mark.parametrize("family", ["locomotion", "sitting", "squatting", "jumping", "bending", "kicking"])
def test_a_correct_body_passes_in_every_frame(family):
  for seed in range(4):
    poses = walker(family, seed)
    poses[::7, 3] = np.nan  # frames that are left out
    turned = {"y_up": poses, "z_up": poses[..., [2, 0, 1]], "camera": poses * [1, -1, -1] + [0, 1, 5]}
    for frame, one in turned.items():
      assert geometry_checks.check_skeleton(one, frame, family) == []


@pytest.mark.parametrize("change, message", [
    (lambda p: 1000 * p, "looks like millimetres -> multiply by 0.001"),
    (lambda p: 100 * p, "looks like centimetres"),
    (lambda p: 2 * p, "not metres, nor mm, cm, inches"),
    (lambda p: p[:, FLIP], "left and right are exchanged -> "),
    (lambda p: p * [-1, 1, 1], "undo a mirrored axis"),
    (lambda p: p[:, list(skeleton.ORDERS["spin17"])], "in the legs alone"),
    (lambda p: p[:, np.r_[:11, 14:17, 11:14]], "left and right of shoulders and hips disagree"),
    (lambda p: p[:, np.argsort(skeleton.ORDERS["dhp17"])], "fits the joint order dhp17"),
    (lambda p: p[:, ::-1], "not in Human3.6M order"),
    (lambda p: p * [1, -1, -1], "head is below the pelvis in 100% of 60 frames -> y points the other way"),
    (lambda p: p * np.nan, "no frame has a finite pose"),
])
def test_each_mistake_in_a_skeleton_gets_its_message(change, message):
  findings = geometry_checks.check_skeleton(change(walker()), "y_up", "file")
  assert [f.level for f in findings] == ["fault"] and message in str(findings[0])


def test_a_slightly_asymmetric_body_is_only_a_warning():
  poses = walker()
  poses[:, 13] += 0.1 * (poses[:, 13] - poses[:, 12])  # a forearm a tenth longer, as in true motion capture
  (finding,) = geometry_checks.check_skeleton(poses, "y_up", "file")
  assert finding.level == "warning" and "forearm" in finding.what and "10% apart" in finding.what


@pytest.mark.parametrize("change, message", [
    (lambda p, k: (p[:, :1] + 1.05 * (p - p[:, :1]), k), "1.05. times too large about its pelvis: univ_annot3"),
    (lambda p, k: (p, k[:, FLIP]), "left and right are exchanged between 2D and 3D"),
    (lambda p, k: (p, k[:, np.argsort(skeleton.ORDERS["dhp17"])]), "the 2D has the joint order dhp17"),
    (lambda p, k: (p[:, np.argsort(skeleton.ORDERS["dhp17"])], k), "the 3D has the joint order dhp17"),
    (lambda p, k: (p, k * [1.92, 1.08]), "an image 1.92 times as wide and 1.08 times as high"),
    (lambda p, k: (p, np.asarray(camera.project_linear(p, LENS))), "no lens distortion"),
    (lambda p, k: (p[2:], k[:-2]), "the 2D is 2 frames late"),
    (lambda p, k: (p[:-1], k[1:]), "the 2D is 1 frames early"),
    (lambda p, k: (p, np.asarray(camera.normalise_screen(k, np.array([1000, 1002])))), "screen-normalised: store"),
    (lambda p, k: (p * [-1, 1, 1], k), "do not belong together"),
])
def test_each_mistake_between_2d_and_3d_gets_its_message(projected, change, message):
  poses, keypoints = change(*projected)
  (finding,) = check(poses, keypoints, np.ones(len(poses)))
  assert finding.level == "fault" and re.search(message, str(finding)), finding


def test_only_valid_finite_frames_are_compared(projected):
  poses, keypoints = projected[0], projected[1].copy()
  keypoints[3] += 600
  keypoints[4] = np.nan
  valid = np.ones(len(poses))
  (fault,) = check(poses, keypoints, valid)
  assert f"by {600 * 2**0.5 / 59:.3g} px on average" in fault.what
  valid[3] = 0
  assert check(poses, keypoints, valid) == []
