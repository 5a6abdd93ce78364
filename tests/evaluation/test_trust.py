"""Each check of the trust in a lifted video: the fault that it is for, and silence without it."""

import numpy as np
import pytest

from posynda_jax.evaluation import trust
from posynda_jax.geometry import camera
from tests import scene

FRAMES, SIZE = 40, (1000.0, 800.0)
INTRINSICS = np.array([1000, 1000, 500, 400, 0, 0, 0, 0, 0], np.float32)


def video(**changes) -> dict:
  """A record of a person who sways 4 m before the camera, and its root and reprojection error."""
  poses = scene.motion(FRAMES) * [1, -1, 1] + [0, 0.9, 4]
  points = np.asarray(camera.project(poses[None].astype(np.float32), INTRINSICS[None])[0])
  found = {
      "keypoints_px": points, "confidence": np.full((FRAMES, 17), 0.9, np.float32), "valid": np.ones(FRAMES, bool),
      "intrinsics": INTRINSICS, "resolution": np.array(SIZE, np.float32), "fps": np.float32(30),
      "root": poses[:, 0], "reprojection_px": np.full(FRAMES, 3.0),
  }
  return found | {name: change(found) if callable(change) else change for name, change in changes.items()}


def judge(record: dict, sigma_m=None) -> trust.Trust:
  return trust.judge(record, record["root"], record["reprojection_px"], 100 + np.arange(FRAMES), sigma_m)


def some(field, frames, value):
  """The field with another value in some frames."""

  def change(found):
    changed = found[field].copy()
    changed[frames] = value
    return changed

  return change


def points(change):
  return lambda found: change(found["keypoints_px"].copy())


def test_what_the_base_expects_to_be_far_off_is_not_trusted():
  sigma = np.full((FRAMES, 17), 0.05)
  sigma[:, 13] = 0.3  # a wrist
  found = judge(video(), sigma)
  assert found.frames.all() and not found.joints[:, 13].any() and np.delete(found.joints, 13, 1).all()
  sigma[10:15] = 0.25
  found = judge(video(), sigma)
  assert np.flatnonzero(~found.frames).tolist() == [10, 11, 12, 13, 14]
  assert found.reasons == ((110, 114, "the lifter is not sure of this pose: joints may be 250 mm off"),)
  assert judge(video(), np.full((FRAMES, 17), np.nan)).joints.all()  # a base without doubt head


def test_a_good_video_is_trusted_and_says_so():
  found = judge(video())
  assert found.frames.all() and found.joints.all() and found.reasons == ()
  assert found.summary == f"trusted: 100% of {FRAMES} frames"


@pytest.mark.parametrize("changes, why", [
    ({"intrinsics": INTRINSICS / 20}, "do not fit 1000x800 px: millimetres"),
    ({"intrinsics": INTRINSICS / 2}, "do not fit 1000x800 px"),
    ({"resolution": np.array([500.0, 400.0])}, "% of the joints lie outside the image"),
    ({"resolution": np.array([800.0, 450.0])}, "outside the image; 1200x675 would hold them"),
    ({"keypoints_px": points(lambda x: x[..., ::-1])}, "lies on the side in 100% of the frames: a rotated video, or y"),
    ({"keypoints_px": points(lambda x: SIZE - x)}, "head is below the hips in 100% of the frames"),
    ({"keypoints_px": points(lambda x: x[np.random.default_rng(0).permutation(FRAMES)] + 40 * np.random.default_rng(
        1).standard_normal((FRAMES, 1, 2)))}, "the motion jumps: frames out of order"),
    ({"root": lambda found: found["root"] / 10}, "would stand 0.40 m from the camera"),
    ({"valid": np.arange(FRAMES) == 3}, "one frame only"),
    ({"reprojection_px": np.full(FRAMES, 40.0)}, "misses its keypoints by "),
])
def test_a_fault_throughout_takes_the_trust_from_every_frame(changes, why):
  found = judge(video(**changes))
  assert not found.frames.any() and not found.joints.any()
  assert any(why in reason for _, _, reason in found.reasons), found.summary


@pytest.mark.parametrize("changes, frames, why", [
    ({"valid": some("valid", slice(10, 15), False)}, slice(10, 15), "nobody was detected"),
    ({"confidence": some("confidence", (slice(10, 15), slice(0, 8)), 0.1)}, slice(10, 15), "too few joints are seen"),
    ({"reprojection_px": some("reprojection_px", slice(10, 30), 40.0)}, slice(10, 30), "misses its keypoints by"),
    ({"keypoints_px": points(lambda x: np.concatenate([x[:20], x[20:] + [150, 0]]))}, slice(19, 21), "motion jumps"),
])
def test_a_fault_in_a_stretch_is_named_with_its_frames(changes, frames, why):
  found = judge(video(**changes))
  np.testing.assert_array_equal(np.flatnonzero(~found.frames), np.arange(FRAMES)[frames])
  ((first, last, reason),) = found.reasons
  assert (first, last) == (100 + frames.start, 99 + frames.stop) and why in reason
  assert f"(frames {first} to {last})" in found.summary


def test_a_joint_that_nobody_saw_is_not_trusted_in_a_frame_that_is():
  found = judge(video(confidence=some("confidence", (slice(5, 9), [3, 6]), 0.0)))
  assert found.frames.all()
  np.testing.assert_array_equal(np.argwhere(~found.joints), [[t, j] for t in range(5, 9) for j in (3, 6)])


def test_one_bad_frame_among_good_ones_is_smoothed_over():
  assert judge(video(reprojection_px=some("reprojection_px", 20, 60.0))).frames.all()
