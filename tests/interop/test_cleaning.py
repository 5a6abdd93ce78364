"""Laws of what is mended in one person's keypoints."""

import numpy as np
import pytest

from posynda_jax.evaluation import trust
from posynda_jax.geometry import skeleton, virtual_camera
from posynda_jax.interop.keypoints import cleaning
from tests import scene

SEEN = virtual_camera.SEEN


def walker(num_frames: int) -> np.ndarray:
  """Keypoints [T 17 2] px of a person whose legs and arms swing, seen from an angle."""
  body = scene.motion(num_frames)
  swing = 0.3 * np.sin(np.arange(num_frames) * 0.2)
  for joints, way in (([2, 3, 15, 16], 1), ([5, 6, 12, 13], -1)):
    body[:, joints, 2] += way * swing[:, None]
  across = body[..., 0] * 0.8 + body[..., 2] * 0.6
  return 300 * np.stack([across, -body[..., 1]], -1) + [500, 600]


@pytest.mark.parametrize("joints", [[*range(1, 7)], [*range(11, 17)], [*range(1, 7), *range(11, 17)]])
@pytest.mark.parametrize("frames", [slice(0, 0), slice(30, 31), slice(40, 75), slice(0, 30)])
def test_exchanged_sides_are_found_and_nothing_else(joints, frames):
  points, mirror = walker(120), np.array(skeleton.flip(np.arange(17.0)[:, None]))[:, 0].round().astype(int)
  mirror = np.abs(mirror)
  hurt, want = points.copy(), np.zeros((120, 17), bool)
  hurt[frames, joints] = points[frames][:, mirror[joints]]
  want[frames, joints] = True
  found = cleaning.find_exchanged(hurt, np.ones(120, bool))
  np.testing.assert_array_equal(found, want)
  mended, confidence = cleaning.exchange(hurt, np.full((120, 17), 0.9), found, 30)
  np.testing.assert_allclose(mended, points)
  assert (confidence == 0.9).all()


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_joints_that_jump_away_for_a_frame_or_two_are_found_and_nothing_else(fps):
  points, seen = walker(120), np.ones(120, bool)
  size, hurt = np.linalg.norm(np.ptp(points, 1), axis=-1).mean(), points.copy()
  hurt[40, 13] += [0.5 * size, 0]
  hurt[80:82, 3:5] -= [0, 0.4 * size]
  found = cleaning.find_jumps(hurt, seen, fps)
  np.testing.assert_array_equal(found, (hurt != points).any(-1))
  mended, confidence = cleaning.interpolate(hurt, np.full((120, 17), 0.9), found, fps)
  assert np.abs(mended - points).max() < 0.03 * size
  np.testing.assert_allclose(confidence, np.where(found, SEEN, 0.9))


def test_a_jump_changes_no_other_joint_and_is_found_beside_joints_that_were_never_seen():
  points, seen = walker(60), np.ones(60, bool)
  size, hurt, scores = np.linalg.norm(np.ptp(points, 1), axis=-1).mean(), points.copy(), np.full((60, 17), 0.9)
  scores[:, [0, 1, 4]] = SEEN  # joints of which a detector is hardly sure
  hurt[30, 13] += [0.3 * size, 0]
  hurt[:, 6] = np.nan
  found = cleaning.find_jumps(hurt, seen, 30)
  assert found[30, 13] and found.sum() == 1
  mended, confidence = cleaning.interpolate(hurt, scores, found, 30)
  np.testing.assert_array_equal(mended[~found], hurt[~found])
  np.testing.assert_array_equal(confidence[~found], scores[~found])


def test_motion_that_is_fast_or_stays_is_no_jump():
  points, seen = walker(120), np.ones(120, bool)
  points[:, 13] += 60 * np.sin(np.arange(120)[:, None] * 2 * np.pi * 3 / 30)  # a hand that waves three times a second
  points[50:, :] += 300  # a cut
  assert not cleaning.find_jumps(points, seen, 30).any()
  points = np.concatenate([points[:70] / 4, points[70:]])  # they come near: their hand moves as fast as before
  assert not cleaning.find_jumps(points, seen, 30).any()


def test_frames_in_disorder_are_no_jumps():
  """Nothing says where the joints were; the trust doubts the result."""
  points = np.random.default_rng(0).permutation(walker(120))
  points[::3, 13] += 400
  assert not cleaning.find_jumps(points, np.ones(120, bool), 30).any()


def test_calm_motion_in_disorder_has_no_jumps_either():
  """Its joints jump in fewer frames; without those jumps it would look right."""
  points = 0.6 * walker(120) + 0.4 * walker(120).mean(0)
  for seed in range(4):
    shuffled = np.random.default_rng(seed).permutation(points)
    shuffled[::12, 13] += 400
    assert trust.is_disordered(*trust.measure_motion(shuffled, np.ones(120, bool), 30))
    assert not cleaning.find_jumps(shuffled, np.ones(120, bool), 30).any()


def test_after_a_long_absence_motion_says_nothing_about_sides():
  points, seen = walker(80), np.ones(80, bool)
  seen[30:50] = False
  turned = points.copy()
  turned[50:, :, 0] = 1000 - points[50:, :, 0]  # they came back facing away
  assert not cleaning.find_exchanged(turned, seen).any()


@pytest.mark.parametrize("format_name, least", [("detectron", 0.05), ("openpose", 0.1), ("alphapose", 0.2)])
def test_a_joint_below_its_detectors_least_score_is_dropped_and_others_count_as_seen(format_name, least):
  points, scores = np.ones((1, 3, 2)), np.array([[least - 0.01, least + 0.01, 0.9]], np.float32)
  kept, found = cleaning.drop_untrusted(points, scores, format_name)
  assert np.isnan(kept[0, 0]).all() and (kept[0, 1:] == 1).all()
  np.testing.assert_allclose(found, [[0, max(SEEN, least + 0.01), 0.9]])


def test_short_gaps_count_as_seen_and_long_ones_do_not():
  points, scores = walker(40), np.full((40, 17), 0.9)
  for joint, gap in ((3, slice(10, 14)), (6, slice(10, 25)), (13, slice(36, 40))):
    points[gap, joint], scores[gap, joint] = np.nan, 0
  filled, found, seen, counts = cleaning.fill(np.arange(40), points, scores, 30.0)
  assert seen.all() and np.isfinite(filled).all() and counts["interpolated_frames"] == 0
  assert (found[10:14, 3] == SEEN).all() and (found[10:25, 6] == 0).all() and (found[36:, 13] == 0).all()
  np.testing.assert_allclose(filled[12, 3], filled[9, 3] + 3 / 5 * (filled[14, 3] - filled[9, 3]))
  np.testing.assert_allclose(filled[36:, 13], np.broadcast_to(filled[35, 13], (4, 2)))  # held


def test_legs_that_were_never_seen_are_put_below_the_hips_in_proportion():
  points = walker(5)
  hidden = points.copy()
  hidden[:, [2, 3, 5, 6]] = np.nan
  assert cleaning.complete(hidden) == ["right_knee", "right_ankle", "left_knee", "left_ankle"]
  assert np.abs(hidden[:, [2, 3, 5, 6], 1] - points[:, [2, 3, 5, 6], 1]).max() < 0.15 * np.ptp(points[..., 1])
  with pytest.raises(ValueError, match="no joint of Human3.6M-17 is seen"):
    cleaning.complete(np.full((2, 17, 2), np.nan))
