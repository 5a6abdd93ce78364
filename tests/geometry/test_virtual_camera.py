"""Laws of the virtual camera: the same rays, the view it is given, and poses that rotate back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.geometry import camera, skeleton, virtual_camera
from tests import scene
from tests.tolerance import assert_close

RENDER, CHANNELS, PROJECT = map(jax.jit, (virtual_camera.render_clip, virtual_camera.channels, camera.project))
TO_CAMERA_AXES = jax.jit(virtual_camera.to_camera_axes)
FRAMES = 3
VIEW = np.float32([0.02, -0.1, 0.08, -0.23, 0.2])


def clips(num: int = 5, seed: int = 0, labelled: bool = True) -> dict:
  poses = scene.poses((num, FRAMES), seed)
  intrinsics = np.tile(scene.INTRINSICS, (num, 1))
  clip = {
      "keypoints": PROJECT(poses, intrinsics), "intrinsics": intrinsics, "index": np.arange(num),
      "confidence": np.random.default_rng(seed).uniform(0.2, 1, (num, FRAMES, 17)).astype(np.float32),
      "valid": np.ones((num, FRAMES), np.float32),
  }
  return clip | ({"poses": poses} if labelled else {})


def test_a_virtual_camera_renders_the_same_poses_and_its_rotation_has_an_inverse():
  clip = clips()
  rendered, rotation = RENDER(clip, VIEW)
  projected = PROJECT(rendered["poses"], rendered["intrinsics"])
  np.testing.assert_allclose(projected, rendered["keypoints"], atol=2e-5)  # `rays` iterates
  assert_close(TO_CAMERA_AXES(rendered["poses"], rotation), clip["poses"])
  assert_close(rotation @ jnp.swapaxes(rotation, -1, -2), np.broadcast_to(np.eye(3), rotation.shape))
  assert set(RENDER(clips(labelled=False), VIEW)[0]) == set(clip) - {"poses"}


def test_the_rendered_clips_have_the_given_view():
  clip = clips() | {"confidence": np.ones((5, FRAMES, 17), np.float32)}
  rendered, _ = RENDER(clip, VIEW)
  one_by_one = ([rendered[name][i : i + 1] for name in ("keypoints", "poses", "valid")] for i in range(5))
  found = np.array([virtual_camera.measure_view(*arrays) for arrays in one_by_one])
  np.testing.assert_allclose(found[:, :2], np.tile(VIEW[:2], (5, 1)), atol=0.01)  # a mean of directions, not of x/z
  np.testing.assert_allclose(found[:, 2:], np.tile(VIEW[2:], (5, 1)), atol=2e-4)
  again, rotation = RENDER(rendered, VIEW)
  assert_close(rotation, np.broadcast_to(np.eye(3), rotation.shape))
  assert_close(again["keypoints"], rendered["keypoints"])


def test_the_rendering_does_not_depend_on_the_real_cameras_pan_and_intrinsics():
  clip = clips()
  pan = jnp.array([[np.cos(0.3), 0, -np.sin(0.3)], [0, 1, 0], [np.sin(0.3), 0, np.cos(0.3)]])[None].repeat(5, 0)
  poses = virtual_camera.rotate_by_matrix(pan, clip["poses"])
  intrinsics = np.tile(np.float32([1.4, 1.4, 0.1, 0.2, 0, 0, 0, 0, 0]), (5, 1))
  other = clip | {"poses": poses, "intrinsics": intrinsics, "keypoints": PROJECT(poses, intrinsics)}
  rendered, rendered_other = (RENDER(c, VIEW)[0] for c in (clip, other))
  np.testing.assert_allclose(rendered_other["keypoints"], rendered["keypoints"], atol=2e-4)
  np.testing.assert_allclose(rendered_other["poses"], rendered["poses"], atol=2e-3)


def test_joints_without_confidence_and_invalid_frames_do_not_move_the_camera():
  clip = clips()
  confidence, valid = clip["confidence"].copy(), clip["valid"].copy()
  confidence[:, :, 13], valid[:, 1] = 0, 0
  wrong = np.array(clip["keypoints"])
  wrong[:, :, 13], wrong[:, 1] = 0.9, 0
  masked = clip | {"confidence": confidence, "valid": valid}
  rotations = [RENDER(masked | {"keypoints": k}, VIEW)[1] for k in (clip["keypoints"], wrong)]
  assert_close(*rotations)
  empty = clip | {"valid": np.zeros_like(valid), "keypoints": np.zeros_like(wrong)}
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(RENDER(empty, VIEW)))


def test_a_view_of_no_valid_frame_is_refused():
  with pytest.raises(ValueError, match="no valid frame"):
    virtual_camera.measure_view(np.zeros((2, 3, 17, 2)), np.ones((2, 3, 17, 3)), np.zeros((2, 3)))


def test_channels_hide_unseen_joints_and_mirror_with_the_person():
  clip = clips()
  clip["confidence"][0, 1, 4] = virtual_camera.SEEN / 2
  rendered, rotation = RENDER(clip, virtual_camera.CANONICAL)
  found = np.asarray(CHANNELS(rendered, rotation))
  assert (found[0, 1, 4, :3] == 0).all() and (np.delete(found[..., 2].ravel(), 1 * 17 + 4) == 1).all()
  flipped = skeleton.flip(clip["confidence"][..., None])[..., 0]
  mirrored = clip | {"keypoints": skeleton.flip(clip["keypoints"]), "confidence": np.abs(flipped)}
  mirrored["intrinsics"] = clip["intrinsics"] * np.float32([1, 1, -1, 1, 1, 1, 1, -1, 1])
  again = CHANNELS(*RENDER(mirrored, virtual_camera.CANONICAL))
  np.testing.assert_allclose(again, skeleton.flip(found), atol=1e-4)  # `rays` iterates


def test_channels_hold_the_rays_but_for_the_cameras_pan_and_its_small_shift():
  clip = clips() | {"confidence": np.ones((5, FRAMES, 17), np.float32)}
  rendered, rotation = RENDER(clip, virtual_camera.CANONICAL)
  found = np.asarray(CHANNELS(rendered, rotation), np.float64)
  focal = 2 * np.exp(found[:, 0, 0, 3])[:, None, None, None]  # two is the focal length whose logarithm is 0
  shift = np.asarray(rendered["intrinsics"])[:, None, None, 2:4]  # centres the mean of joints in the image
  assert np.abs(shift).max() < 0.02
  ray = np.concatenate([(found[..., :2] - shift) / focal, np.ones(found.shape[:-1] + (1,))], -1)
  sine = found[:, 0, 0, 4]
  cosine = np.sqrt(1 - sine**2)
  zero, one = np.zeros_like(sine), np.ones_like(sine)
  tilt = np.stack([np.stack([one, zero, zero], -1), np.stack([zero, cosine, sine], -1),
                   np.stack([zero, -sine, cosine], -1)], -2)
  level = np.einsum("bij,bfkj->bfki", tilt, ray)
  poses = np.asarray(clip["poses"], np.float64)
  # Elevation against the vertical axis does not change with pan.
  height = level[..., 1] / np.linalg.norm(level, axis=-1)
  np.testing.assert_allclose(height, poses[..., 1] / np.linalg.norm(poses, axis=-1), atol=1e-4)
