"""Laws of virtual rigs and of the simulated detector."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.geometry import camera, detector, rigs, skeleton
from tests import scene

NUM = 300
PROJECT, BONE_LENGTHS = jax.jit(camera.project), jax.jit(skeleton.bone_lengths)


@functools.cache
def views(name: str) -> rigs.View:
  """Views of one motion of 4 frames by NUM random cameras of the named rig, as NumPy arrays."""
  draw = functools.partial(rigs.draw_view, motion_world=jnp.asarray(scene.motion(4)), rig=rigs.get_rig(name))
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), NUM)))


@pytest.mark.parametrize("name", rigs.RIGS)
def test_views_keep_bones_agree_with_their_projection_and_show_upright_people(name):
  view = views(name)
  lengths = np.broadcast_to(BONE_LENGTHS(scene.motion(4)), (NUM, 4, 16))
  np.testing.assert_allclose(BONE_LENGTHS(view.poses_camera), lengths, atol=1e-4)
  np.testing.assert_allclose(PROJECT(view.poses_camera, view.intrinsics), view.keypoints_px, atol=1e-2)
  assert view.poses_camera[..., 2].min() >= rigs.NEAR_M - 1e-4
  inside = ((view.keypoints_px >= 0) & (view.keypoints_px <= view.resolution[:, None, None])).all((-1, -2, -3))
  assert inside.mean() > 0.6
  assert (view.poses_camera[:, 0, 10, 1] < view.poses_camera[:, 0, 3, 1]).all()


def test_rigs_differ_in_depth_and_pitch_as_their_fields_say_and_people_face_all_directions():
  dhp, wild = (views(name).poses_camera for name in ("dhp_rig", "wild_rig"))
  near, far = (poses[:, :, 0, 2].mean(-1) for poses in (dhp, wild))
  assert 2.4 < near.min() and near.max() < 5.6 and far.min() < 2 and far.max() > 6
  spines = (poses[:, 0, 8] - poses[:, 0, 0] for poses in (dhp, wild))
  level, steep = (np.abs(np.degrees(np.arctan2(-spine[:, 2], -spine[:, 1]))).max() for spine in spines)
  assert level < 12 < steep < 35
  hips = dhp[:, 0, 4] - dhp[:, 0, 1]
  assert len(set((np.degrees(np.arctan2(hips[:, 2], hips[:, 0])) // 45).tolist())) >= 8


def test_unknown_rig_lists_the_choices():
  for name in ("fisheye", "h36m_rig+fisheye"):
    with pytest.raises(ValueError, match="'fisheye' is unknown; choose one of h36m_rig, .*wild_rig"):
      rigs.get_rig(name)


def test_a_mixture_draws_its_rigs_with_equal_probability_and_each_as_it_is_alone():
  mixture, alone = views("h36m_rig+dhp_rig+wild_rig"), views("h36m_rig")
  h36m = mixture.resolution[:, 0] == 1000
  portrait = (mixture.resolution == [1080, 1920]).all(-1)  # half of wild_rig's cameras
  assert 60 < h36m.sum() < 140 and 25 < portrait.sum() < 80
  np.testing.assert_allclose(mixture.keypoints_px[h36m], alone.keypoints_px[h36m], atol=1e-2)


def test_the_detectors_error_is_larger_at_wrists_and_where_confidence_is_low():
  px = np.tile(scene.motion(1)[0, :, :2] * 400, (4000, 1, 1))
  detected, confidence = map(np.asarray, jax.jit(detector.detect)(jax.random.key(0), px))
  error = np.linalg.norm(detected - px, axis=-1)
  assert np.median(error[:, 13]) > 1.5 * np.median(error[:, 8])
  assert confidence.min() >= 0 and confidence.max() <= 1
  assert error[confidence < 0.3].mean() > 3 * error[confidence > 0.85].mean()
