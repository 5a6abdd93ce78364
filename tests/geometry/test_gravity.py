"""Which way is up, a level frame with a floor, and angles of joints."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posynda_jax.geometry import gravity
from tests import scene

STANDING = scene.motion(60) * [1, -1, -1]  # m, camera's axes


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (-20, 40, 10)])
def test_up_is_where_upright_people_say(angles):
  turn = Rotation.from_euler("xyz", angles, degrees=True)
  lying = Rotation.from_euler("x", 90, degrees=True)
  poses = np.concatenate([STANDING, lying.apply(STANDING[:20].reshape(-1, 3)).reshape(-1, 17, 3)])
  found = gravity.find_up(turn.apply(poses.reshape(-1, 3)).reshape(-1, 17, 3), np.arange(80) < 60)
  assert found.is_sure and 55 <= found.frames <= 60
  assert np.degrees(np.arccos(found.vector @ turn.apply(gravity.CAMERA_UP))) < 3


def test_up_is_not_found_where_nobody_stands():
  sitting = STANDING.copy()
  sitting[:, [2, 3, 5, 6]] += [0, -0.4, -0.4]
  for poses in (sitting, STANDING[:5]):
    found = gravity.find_up(poses)
    assert not found.is_sure and found.vector.tolist() == gravity.CAMERA_UP.tolist()


def test_a_level_person_stands_on_the_floor_upright_and_is_not_deformed():
  turn = Rotation.from_euler("xz", (30, 10), degrees=True)
  joints = turn.apply((STANDING + [0.3, 0.9, 4]).reshape(-1, 3)).reshape(-1, 17, 3)
  level = gravity.stand(joints, turn.apply(gravity.CAMERA_UP))
  lowest = level[:, [3, 6], 1].min(-1)
  assert (lowest < -1e-9).mean() <= 0.06 and abs(np.quantile(lowest, 0.05)) < 1e-9
  np.testing.assert_allclose(level[:, 10, 1] - level[:, 0, 1], -(STANDING[:, 10, 1] - STANDING[:, 0, 1]), atol=1e-9)
  for a, b in ((0, 10), (3, 13)):
    np.testing.assert_allclose(
        np.linalg.norm(level[:, a] - level[:, b], axis=-1), np.linalg.norm(joints[:, a] - joints[:, b], axis=-1))
  straight = gravity.stand(STANDING, gravity.CAMERA_UP)
  np.testing.assert_allclose(np.diff(straight, axis=0), np.diff(STANDING * [1, -1, -1], axis=0), atol=1e-12)


@pytest.mark.parametrize("angles", [(0, 0), (25, 0), (-40, 15), (10, 180), (80, -100)])
def test_levelling_turns_up_upright_and_keeps_the_heading(angles):
  up = Rotation.from_euler("xz", angles, degrees=True).apply(gravity.CAMERA_UP)
  turn = gravity.levelling(up)
  np.testing.assert_allclose(turn @ up, gravity.CAMERA_UP, atol=1e-9)
  np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
  ahead = turn @ [0, 0, 1]
  assert np.linalg.det(turn) > 0 and abs(ahead[0]) < 1e-9 and ahead[2] > 0


def test_a_camera_that_looks_down_sees_up_behind_its_image_plane():
  np.testing.assert_allclose(gravity.pitched(0), gravity.CAMERA_UP, atol=1e-12)
  ahead = gravity.levelling(gravity.pitched(30)) @ [0, 0, 1]
  np.testing.assert_allclose(ahead, [0, 0.5, np.sqrt(0.75)], atol=1e-9)  # y down


def test_the_true_up_follows_from_the_motion_that_was_rendered():
  world = scene.motion(90)
  turn = Rotation.from_euler("xyz", (200, 30, 5), degrees=True)
  poses = turn.apply(world[30:60].reshape(-1, 3)).reshape(-1, 17, 3) + [0, 0, 4]
  np.testing.assert_allclose(gravity.up_of_motion(poses, world), turn.apply([0, 1, 0]), atol=1e-6)


def test_angles_of_a_figure_with_known_bends():
  pose = np.zeros((1, 17, 3))
  pose[:, [1, 4, 8, 14, 11], :2] = [[-1, 0], [1, 0], [0, -4], [-1, -4], [1, -4]]  # hips, thorax, shoulders; y down
  pose[:, 2], pose[:, 3] = [-1, 4, 0], [-1, 4, 4]  # the right knee bent by 90 degrees
  pose[:, 5], pose[:, 6] = [1, 0, -4], [1, 0, -8]  # the left leg raised forward, straight
  pose[:, 15], pose[:, 16] = [-3, -4, 0], [-3, -2, 0]  # the right arm out, its elbow bent by 90
  pose[:, 12], pose[:, 13] = [1, -2, 0], [1, 0, 0]  # the left arm hangs
  found = {name: float(values[0]) for name, values in gravity.joint_angles(pose).items()}
  want = dict.fromkeys(("right_knee", "right_elbow", "right_shoulder"), 90)
  want |= dict.fromkeys(("left_knee", "left_elbow", "left_shoulder"), 0)
  assert {name: found[name] for name in want} == pytest.approx(want, abs=1e-4)
  assert found["left_hip"] - found["right_hip"] > 60
