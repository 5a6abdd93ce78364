"""Lifting of unlabelled records: frames stay in order, people stand in their place, and errors are in px."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.evaluation import lifting
from posynda_jax.evaluation.scoring import SamplingConfig
from posynda_jax.geometry import camera, gravity, skeleton
from posynda_jax.geometry.measured import Measured
from tests import scene
from tests.tolerance import assert_close

W, H, F = 1000, 800, 900.0


def flat_scene(num_frames: int, fps: float) -> tuple[dict, np.ndarray]:
  """A record of a flat person 4 m before a camera without distortion, and the poses [T 17 3], all joints at a constant
  velocity.
  """
  first, last = scene.poses((2,), seed=3)
  poses = (first + np.linspace(0, 1, num_frames)[:, None, None] * (last - first)).astype(np.float32)
  poses[..., 2] = 4
  intrinsics = np.array([F, F, W / 2, H / 2, 0, 0, 0, 0, 0], np.float32)
  record = {
      "keypoints_px": np.array(camera.project(poses, intrinsics)), "confidence": np.ones(poses.shape[:2], np.float32),
      "valid": np.ones(num_frames, bool), "intrinsics": intrinsics, "resolution": np.array([W, H], np.float32),
      "fps": np.float32(fps), "sequence": "flat",
  }
  return record, poses


def flat_denoiser(keypoints, noisy, t):
  """The exact poses of flat people at 4 m. A screen unit there is 4 W / (2 F) metres."""
  xy = keypoints * (4 * W / (2 * F))
  return jnp.concatenate([xy - xy[..., :1, :], jnp.zeros_like(xy[..., :1])], -1)


def wrong_wrist(keypoints, noisy, t):
  return flat_denoiser(keypoints, noisy, t).at[..., 13, :].set(0.1)


@functools.cache
def program(denoise, **config):
  return lifting.make_lifter(lambda weights: denoise, SamplingConfig(**config))


def lift(record: dict, denoise=flat_denoiser, **config) -> lifting.Lifted:
  return lifting.lift_record(program(denoise, **config), (), Measured(), record, 12.5, num_frames=9, batch_size=4)


@pytest.mark.parametrize("num_frames, fps", [(1, 25.0), (23, 12.5), (2, 100.0), (23, 25.0), (50, 60.0)])
def test_lifting_keeps_frames_in_order_and_finds_their_place(num_frames, fps):
  record, poses = flat_scene(num_frames, fps)
  lifted = lift(record, num_hypotheses=2, select="frame")
  assert_close(lifted.pose, np.asarray(skeleton.root_centre(poses)))
  np.testing.assert_allclose(lifted.root, poses[:, 0], atol=1e-3)
  assert lifted.hypotheses.shape == (num_frames, 2, 17, 3)
  assert_close(lifted.hypotheses, np.stack([lifted.pose] * 2, 1))
  assert lifted.reprojection_px.max() < 0.05 and np.isnan(lifted.deviation).all()


@pytest.mark.parametrize("distortion", [(0,) * 5, (-0.2, 0.05, 0, 1e-3, 1e-3)])
def test_a_levelled_record_is_what_a_level_camera_sees(distortion):
  poses = scene.poses((6,)).astype(np.float32)
  turn = gravity.levelling(gravity.pitched(20)).astype(np.float32)
  intrinsics = np.array([F, F, W / 2, H / 2, *distortion], np.float32)
  record = {"keypoints_px": np.array(camera.project(poses, intrinsics)), "intrinsics": intrinsics}
  level = lifting.see_level(record, turn)
  assert (level["intrinsics"] == [F, F, W / 2, H / 2, 0, 0, 0, 0, 0]).all()
  np.testing.assert_allclose(level["keypoints_px"], camera.project(poses @ turn.T, level["intrinsics"]), atol=0.05)


def test_poses_of_a_levelled_record_are_in_the_axes_of_its_own_camera():
  """A flat person who faces a level camera, seen by one that looks down."""
  record, poses = flat_scene(23, 25.0)
  up = gravity.pitched(15)
  tilted = (poses @ gravity.levelling(up)).astype(np.float32)
  record |= {"keypoints_px": np.array(camera.project(tilted, record["intrinsics"])), "up": up}
  lifted = lift(record, num_hypotheses=2)
  for found in (lifted.pose, lifted.hypotheses[:, 1]):
    np.testing.assert_allclose(found, np.asarray(skeleton.root_centre(tilted)), atol=1e-3)
  np.testing.assert_allclose(lifted.root, tilted[:, 0], atol=5e-3)
  assert np.nanmax(lifted.reprojection_px) < 0.5 and (lifted.up == up).all()


def test_a_camera_that_looks_down_steeply_is_not_levelled():
  record, _ = flat_scene(23, 25.0)
  plain, steep = (lift(record | up) for up in ({}, {"up": gravity.pitched(80)}))
  assert steep.up is None
  np.testing.assert_array_equal(steep.pose, plain.pose)


def test_up_is_not_found_from_legs_that_nobody_saw():
  record, _ = flat_scene(23, 25.0)
  record["confidence"][:, [3, 6]] = 0
  assert lifting.find_up(None, None, None, record, 12.5, 9, 4) is None  # nothing is lifted


@pytest.mark.parametrize("num_frames, fps", [(40, 12.5), (400, 12.5), (401, 50.0)])
def test_an_excerpt_is_whole_clips_spread_over_the_record(num_frames, fps):
  record, _ = flat_scene(num_frames, fps)
  part = lifting.excerpt(record, 12.5, num_frames=9, clips_wanted=8)
  if num_frames == 40:
    assert part is record
    return
  stride = round(fps / 12.5)
  assert len(part["valid"]) == len(part["keypoints_px"]) == len(part["confidence"]) == 8 // stride * stride * 9
  pieces = part["keypoints_px"].reshape(8 // stride, stride * 9, 17, 2)
  np.testing.assert_array_equal(pieces[0], record["keypoints_px"][: stride * 9])
  np.testing.assert_array_equal(pieces[-1], record["keypoints_px"][-stride * 9 :])


def test_a_person_of_known_height_has_it_and_projects_as_before():
  record, _ = flat_scene(23, 25.0)
  lifted = lift(record, num_hypotheses=2, select="frame")
  scaled = lifting.scale_to_height(lifted, 1.2)
  assert lifting.height(scaled) == pytest.approx(1.2) and lifting.height(lifted) > 1.5
  joints, scaled_joints = (one.pose + one.root[:, None] for one in (lifted, scaled))
  intrinsics = record["intrinsics"]
  np.testing.assert_allclose(camera.project(scaled_joints, intrinsics), camera.project(joints, intrinsics), atol=0.01)
  with pytest.raises(ValueError, match="height of 175 m: expected a person's, from 0.5 to 2.5 m"):
    lifting.scale_to_height(lifted, 175)


def test_a_doubt_head_comes_with_every_joint():
  mirrored = skeleton.flip(np.arange(17.0)[:, None] * [1, 1])[:, 1]
  across = 0.01 + 0.001 * np.minimum(np.arange(17.0), mirrored)  # as in the mirror image
  def doubting(keypoints, noisy, t):
    stated = jnp.log(jnp.stack([across, jnp.full(17, 0.04)], -1))
    stated = jnp.broadcast_to(stated, (*keypoints.shape[:-1], 2))
    return jnp.concatenate([flat_denoiser(keypoints, noisy, t), stated], -1)

  record, _ = flat_scene(23, 25.0)
  lifted = lift(record, doubting)
  assert_close(lifted.deviation[:, 1:, 0], np.broadcast_to(across[1:], (23, 16)))
  assert_close(lifted.sigma_m[:, 1:], np.sqrt(2 * lifted.deviation[:, 1:, 0] ** 2 + 0.04**2))
  assert (lifted.sigma_m[:, 0] == 0).all()


def test_the_reprojection_error_is_in_px_weighs_by_confidence_and_shows_bad_frames():
  record, _ = flat_scene(10, 12.5)
  record["confidence"][4] = 0  # an interpolated frame
  record["valid"][4] = False
  record["keypoints_px"][7, 13] += [60, 0]  # a wrist that this denoiser does not follow
  lifted = lift(record, wrong_wrist)
  errors = lifted.reprojection_px
  assert np.isnan(errors[4]) and np.isfinite(np.delete(errors, 4)).all() and np.nanargmax(errors) == 7
  assert np.isfinite(lifted.root[4]).all() and lifted.root[4, 2] > 1
  assert lifting.mean_reprojection([lifted]) == {"reprojection_px": pytest.approx(np.nanmean(errors)), "frames": 9}
  record["confidence"][:, 13] = 1e-6
  record["confidence"][4] = 0
  assert np.nanmax(lift(record, wrong_wrist).reprojection_px) < 0.05


@pytest.mark.parametrize("fps, clip_fps, warned", [
    (25, 50, "this video gives 25: motion appears faster"), (70, 50, "this video gives 70: motion appears slower"),
    (50, 50, None), (60, 15, None), (30, 15, None), (29.97, 15, None),
])
def test_another_frame_rate_than_the_bases_is_a_warning(fps, clip_fps, warned):
  warnings = lifting.rate_warning({"fps": np.float32(fps)}, clip_fps)
  assert warned in warnings[0] if warned else warnings == []


def test_every_second_track_is_lifted_in_the_mirror_image():
  def to_the_right(keypoints, noisy, t):  # it errs to the same side in the mirror
    return flat_denoiser(keypoints, noisy, t).at[..., 1:, 0].add(0.1)

  record, poses = flat_scene(23, 25.0)
  lifted = lift(record, to_the_right)
  off = lifted.pose[:, 1:, 0] - np.asarray(skeleton.root_centre(poses))[:, 1:, 0]
  assert_close(off[1:-1], np.zeros_like(off[1:-1]))
  assert_close(off[[0, 22]], np.full((2, 16), 0.1))  # no other track around them


def test_interleaved_tracks_agree_on_one_answer_where_all_saw_the_motion():
  frames, stride = 40, 4
  time, seen = np.arange(frames, dtype=np.float64), np.ones(frames, bool)
  apart = np.resize([1.0, -1.0, 0.5, -0.5], frames)  # how far each track errs
  whole = slice(stride - 1, 1 - stride)
  np.testing.assert_allclose(lifting.mean_of_tracks(time + apart, stride, seen)[whole], time[whole])
  np.testing.assert_array_equal(lifting.mean_of_tracks(time + apart, 1, seen), time + apart)
  assert lifting.mean_of_tracks(time, stride, seen) == pytest.approx(time)  # at the ends too
  seen[20] = False
  found = lifting.mean_of_tracks(np.where(seen, time, np.nan), stride, seen)
  np.testing.assert_allclose(found[seen], time[seen])
  assert np.isnan(found[20])


def test_smoothing_keeps_slow_motion_and_removes_fast():
  time = np.arange(120) / 30
  slow, fast = np.sin(2 * np.pi * 0.5 * time), 0.1 * np.sin(2 * np.pi * 12 * time)
  one = np.broadcast_to((slow + fast)[:, None, None], (120, 17, 3)).astype(np.float32)
  lifted = lifting.Lifted(one, one[:, None], one[:, 0], one[..., :2], np.zeros(120), np.arange(120), None)
  smooth = lifting.smooth(lifted, 30.0, 4.0)
  for name in ("pose", "hypotheses", "root"):
    found = getattr(smooth, name).reshape(120, -1)[10:-10]
    assert np.abs(found - slow[10:-10, None]).max() < 0.01
  for frames, cutoff, message in ((120, 15.0, "15 Hz cannot be filtered at 30"), (5, 4.0, "5 frames are too few")):
    short = dataclasses.replace(lifted, pose=one[:frames], root=one[:frames, 0], hypotheses=one[:frames, None])
    with pytest.raises(ValueError, match=message):
      lifting.smooth(short, 30.0, cutoff)
