"""Laws of the augmentations: what each changes, what it keeps, and in how many clips."""

import jax
import numpy as np
import pytest

from posynda_jax.adaptation import augmentations
from posynda_jax.geometry import skeleton
from tests import scene
from tests.tolerance import assert_close

NUM, FRAMES = 200, 2
KEYS = jax.random.split(jax.random.key(2), NUM)
MOTION = np.broadcast_to(scene.motion(FRAMES), (NUM, FRAMES, 17, 3)).astype(np.float32)


def changed(before, after):
  return (np.abs(np.asarray(before) - np.asarray(after)) > 1e-4).any(tuple(range(1, np.ndim(before))))


@pytest.mark.parametrize("change", [augmentations.turn, augmentations.reproportion])
def test_a_share_of_clips_is_changed_and_the_rest_is_not(change):
  assert 0.2 < changed(MOTION, change(KEYS, MOTION, 0.3)).mean() < 0.45
  assert not changed(MOTION, change(KEYS, MOTION, 0.0)).any()


def test_a_turn_keeps_the_body_and_the_lowest_height():
  turned = augmentations.turn(KEYS, MOTION, 1.0)
  assert_close(skeleton.bone_lengths(turned), skeleton.bone_lengths(MOTION))
  assert_close(turned[..., 1].min((1, 2)), MOTION[..., 1].min((1, 2)))
  upright = (turned[:, 0, skeleton.JOINTS.index("head")] - turned[:, 0, 0])[:, 1]
  assert (upright < 0).any()  # some people are upside down


def test_new_proportions_keep_directions_legs_and_symmetry_in_every_frame():
  made = np.asarray(augmentations.reproportion(KEYS, MOTION, 1.0))
  bones, own = (np.asarray(skeleton.bone_lengths(poses)) for poses in (made, MOTION))
  factor = bones / own
  assert_close(factor[:, 0], factor[:, 1])
  right, left = np.array(skeleton.RIGHT) - 1, np.array(skeleton.LEFT) - 1
  assert_close(factor[..., right], factor[..., left])
  assert_close(np.log(factor[..., [1, 2]]).sum(-1), np.zeros((NUM, FRAMES)))  # thigh and shin
  assert np.log(factor[:, 0, 0]).std() > 0.2  # hips
  parents = np.array(skeleton.PARENTS[1:])
  assert_close((made[:, :, 1:] - made[:, :, parents]) / bones[..., None],
               (MOTION[:, :, 1:] - MOTION[:, :, parents]) / own[..., None])


def test_hidden_joints_are_hidden_in_all_frames_of_a_share_of_clips():
  confidence = np.full((NUM, FRAMES, 17), 0.9, np.float32)
  hidden = np.asarray(augmentations.hide(KEYS, confidence, 0.5)) == 0
  assert (hidden[:, 0] == hidden[:, 1]).all()
  assert 0.3 < hidden.any((1, 2)).mean() < 0.6
  assert 0.03 < hidden[:, 0, [1, 2, 3, 4, 5, 6]].all(-1).mean() < 0.2  # both legs
