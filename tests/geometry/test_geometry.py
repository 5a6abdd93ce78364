"""Laws of the ground: skeleton, camera, clips, metrics, rigs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import clips
from posynda_jax.geometry import camera, camera_tables, detector, metrics, rigs, skeleton
from tests import scene


def test_flip_twice_is_identity_and_exchanges_sides():
  pose = scene.poses((2, 3))
  np.testing.assert_allclose(skeleton.flip(skeleton.flip(pose)), pose)
  assert skeleton.flip(pose)[0, 0, 13, 0] == -pose[0, 0, 16, 0]


@pytest.mark.parametrize("order", ["h36m17", "dhp17", "spin17"])
def test_joint_orders_are_permutations_that_keep_the_sides_together(order):
  assert sorted(skeleton.ORDERS[order]) == list(range(17))


def test_dhp_order_meets_the_published_table():
  names = ["head_top", "neck", "r_sho", "r_elb", "r_wri", "l_sho", "l_elb", "l_wri", "r_hip", "r_knee", "r_ank", "l_hip",
           "l_knee", "l_ank", "pelvis", "spine", "head"]
  ours = [names[i] for i in skeleton.ORDERS["dhp17"]]
  assert ours[:4] == ["pelvis", "r_hip", "r_knee", "r_ank"] and ours[8:11] == ["neck", "head", "head_top"]
  assert ours[13] == "l_wri" and ours[16] == "r_wri"


def test_unknown_joint_order_lists_the_choices():
  with pytest.raises(ValueError, match="dhp17"):
    skeleton.to_h36m(np.zeros((17, 3)), "kinect")


@pytest.mark.parametrize("subject", camera_tables.H36M_EXTRINSICS)
def test_world_to_camera_and_back(subject):
  points = np.random.default_rng(0).normal(size=(4, 17, 3)).astype(np.float32)
  for orientation, position in camera_tables.H36M_EXTRINSICS[subject].values():
    q, t = np.float32(orientation), np.float32(position)
    assert abs(np.linalg.norm(q) - 1) < 1e-6
    there = camera.world_to_camera(points, q, t)
    np.testing.assert_allclose(camera.camera_to_world(there, q, t), points, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(there, axis=-1), np.linalg.norm(points - t, axis=-1), atol=1e-5)


def test_h36m_cameras_stand_upright_and_see_the_origin():
  """A person standing at the origin is in front of every tabled camera, head above feet, inside the image."""
  body = scene.motion(1)[0][:, [0, 2, 1]] * [1, -1, 1]  # Z up
  for cameras in camera_tables.H36M_EXTRINSICS.values():
    for name, (orientation, position) in cameras.items():
      (w, h), intrinsics = camera_tables.H36M_INTRINSICS[name]
      there = camera.world_to_camera(np.float32(body), np.float32(orientation), np.float32(position))
      px = camera.project(there, np.float32(intrinsics))
      assert there[:, 2].min() > 3 and px[10, 1] < px[3, 1]
      assert (px > 0).all() and (px < np.array([w, h])).all()


def test_screen_normalisation_round_trip():
  px = np.random.default_rng(0).uniform(0, 1000, (3, 5, 17, 2))
  resolution = np.array([[1000, 1002], [1920, 1080], [1080, 1920]])
  normalised = camera.normalise_screen(px, resolution)
  np.testing.assert_allclose(camera.unnormalise_screen(normalised, resolution), px, atol=1e-3)
  np.testing.assert_allclose(camera.normalise_screen(np.array([[1000.0, 1002.0]]), np.array([1000, 1002])), [[1, 1.002]], atol=1e-6)


def test_projecting_in_px_and_in_screen_units_agrees():
  for resolution, px in camera_tables.H36M_INTRINSICS.values():
    resolution, px = np.float32(resolution), np.float32(px)
    points = scene.poses((5,))
    there = camera.normalise_screen(camera.project(points, px), resolution)
    np.testing.assert_allclose(camera.project(points, camera.normalise_intrinsics(px, resolution)), there, atol=1e-5)


def test_unprojecting_a_projection_returns_the_point():
  points = scene.poses((4, 6))
  intrinsics = np.tile(scene.INTRINSICS, (4, 1))
  rays = camera.rays(camera.project(points, intrinsics), intrinsics)
  np.testing.assert_allclose(rays * points[..., 2:], points[..., :2], atol=1e-4)


def test_solve_root_recovers_a_translation():
  points = scene.poses((8, 5))
  intrinsics = np.tile(scene.INTRINSICS, (8, 1))
  rays = camera.rays(camera.project(points, intrinsics), intrinsics)
  root = camera.solve_root(skeleton.root_centre(points), rays, jnp.ones(points.shape[:-1]))
  np.testing.assert_allclose(root, points[..., 0, :], atol=1e-4)


def test_solve_root_ignores_joints_without_confidence():
  points = scene.poses((5,))
  rays = camera.rays(camera.project(points, scene.INTRINSICS), scene.INTRINSICS)
  confidence = jnp.ones((5, 17)).at[:, 16].set(0)
  root = camera.solve_root(skeleton.root_centre(points), rays.at[:, 16].add(5.0), confidence)
  np.testing.assert_allclose(root, points[:, 0], atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 17, 18, 19, 100])
@pytest.mark.parametrize("num_frames", [1, 9, 27])
def test_stitching_a_cut_returns_the_sequence(length, num_frames):
  sequence = np.random.default_rng(length).normal(size=(length, 17, 3))
  np.testing.assert_array_equal(clips.stitch(clips.cut(sequence, num_frames), length), sequence)
  plan = clips.make_cut(length, num_frames)
  assert sorted(plan.frames[plan.mask]) == list(range(length)), "every frame is counted once"


def test_last_clip_is_aligned_to_the_end():
  assert clips.make_cut(10, 4).frames[-1].tolist() == [6, 7, 8, 9]


def test_empty_sequence_is_refused():
  with pytest.raises(ValueError, match="0 frames"):
    clips.cut(np.zeros((0, 17, 3)), 9)


def test_p_mpjpe_is_zero_under_any_similarity():
  rng = np.random.default_rng(0)
  pose = scene.poses((10,))
  q = rng.normal(size=(10, 4)).astype(np.float32)
  q /= np.linalg.norm(q, axis=-1, keepdims=True)
  moved = rng.uniform(0.3, 3, (10, 1, 1)) * camera.rotate(q[:, None], jnp.asarray(pose)) + rng.normal(size=(10, 1, 3))
  assert metrics.p_mpjpe(moved, pose).max() < 1e-5
  assert metrics.mpjpe(moved, pose).min() > 0.1


def test_p_mpjpe_never_reflects():
  pose = skeleton.root_centre(scene.poses((4,)))
  mirrored = pose * np.array([-1, 1, 1], np.float32)
  assert metrics.p_mpjpe(jnp.asarray(mirrored), jnp.asarray(pose)).min() > 0.01


def test_n_mpjpe_is_zero_under_scale_alone():
  pose = skeleton.root_centre(scene.poses((4,)))
  assert metrics.n_mpjpe(1.7 * pose, pose).max() < 1e-6


def test_pck_is_strict_and_auc_counts_31_thresholds():
  errors = jnp.array([[0.0, 149.9, 150.0, 151.0]])
  assert metrics.pck(errors, 150.0)[0] == 50
  assert len(metrics.AUC_MM) == 31
  # An error of 0 is below 30 of the 31 thresholds (not below 0 itself).
  np.testing.assert_allclose(metrics.auc(jnp.zeros((1, 14))), 100 * 30 / 31, rtol=1e-6)


@pytest.mark.parametrize("name", rigs.RIGS)
def test_rig_views_keep_the_body_and_meet_their_own_projection(name):
  motion = jnp.asarray(scene.motion(12))
  keys = jax.random.split(jax.random.key(0), 64)
  view = jax.jit(jax.vmap(lambda key: rigs.draw_view(key, motion, rigs.RIGS[name])))(keys)
  lengths = skeleton.bone_lengths(motion)
  np.testing.assert_allclose(skeleton.bone_lengths(view.poses_camera), jnp.broadcast_to(lengths, (64, 12, 16)), atol=1e-4)
  np.testing.assert_allclose(camera.project(view.poses_camera, view.intrinsics), view.keypoints_px, atol=1e-2)
  assert view.poses_camera[..., 2].min() >= rigs.NEAR_M - 1e-4
  inside = ((view.keypoints_px >= 0) & (view.keypoints_px <= view.resolution[:, None, None])).all((-1, -2, -3))
  assert inside.mean() > 0.6, "most people are wholly in the image"
  upright = view.poses_camera[:, 0, 10, 1] < view.poses_camera[:, 0, 3, 1]
  assert upright.all(), "heads are above feet"


def test_rigs_differ_in_scale_and_pitch_as_they_say():
  motion = jnp.asarray(scene.motion(4))
  see = lambda name: jax.vmap(lambda key: rigs.draw_view(key, motion, rigs.RIGS[name]))(jax.random.split(jax.random.key(1), 256))
  pitch, depth = {}, {}
  for name in rigs.RIGS:
    view = see(name)
    spine = view.poses_camera[:, 0, 8] - view.poses_camera[:, 0, 0]
    pitch[name] = np.degrees(np.arctan2(-spine[:, 2], -spine[:, 1]))
    depth[name] = view.poses_camera[:, :, 0, 2].mean(-1)
  assert np.abs(pitch["dhp_rig"]).max() < 12 < np.abs(pitch["wild_rig"]).max() < 35
  assert 2.4 < depth["dhp_rig"].min() and depth["dhp_rig"].max() < 5.6
  assert depth["wild_rig"].min() < 2 and depth["wild_rig"].max() > 6


def test_every_facing_is_seen():
  motion = jnp.asarray(scene.motion(4))
  view = jax.vmap(lambda key: rigs.draw_view(key, motion, rigs.RIGS["dhp_rig"]))(jax.random.split(jax.random.key(1), 256))
  hips = view.poses_camera[:, 0, 4] - view.poses_camera[:, 0, 1]
  facing = np.degrees(np.arctan2(hips[:, 2], hips[:, 0])) // 45
  assert len(set(facing.tolist())) >= 8


def test_detector_noise_grows_at_wrists_and_confidence_tells():
  px = jnp.tile(jnp.asarray(scene.motion(1)[0, :, :2] * 400), (4000, 1, 1))
  seen, confidence = detector.detect(jax.random.key(0), px)
  error = jnp.linalg.norm(seen - px, axis=-1)
  assert jnp.median(error[:, 13]) > 1.5 * jnp.median(error[:, 8])
  assert confidence.min() >= 0 and confidence.max() <= 1
  sure, unsure = confidence > 0.85, confidence < 0.3
  assert jnp.where(unsure, error, 0).sum() / unsure.sum() > 3 * jnp.where(sure, error, 0).sum() / sure.sum()


def test_unknown_rig_lists_the_choices():
  for name in ("fisheye", "h36m_rig+fisheye"):
    with pytest.raises(ValueError, match="'fisheye' is unknown; choose one of h36m_rig, .*wild_rig"):
      rigs.get_rig(name)


def test_a_mixture_sees_through_each_of_its_rigs_as_often():
  motion, keys = scene.motion(3), jax.random.split(jax.random.key(2), 300)
  mixture = rigs.get_rig("h36m_rig+dhp_rig+wild_rig")
  view = jax.jit(jax.vmap(lambda key: rigs.draw_view(key, motion, mixture)))(keys)
  sizes = {rig.name: {tuple(c[0]) for c in rig.cameras} for rig in mixture.rigs}
  portrait = (np.asarray(view.resolution) == [1080, 1920]).all(-1)
  h36m = np.isin(np.asarray(view.resolution)[:, 0], [1000])
  assert (1080, 1920) in sizes["wild_rig"] and all(w == 1000 for w, _ in sizes["h36m_rig"])
  assert 60 < h36m.sum() < 140 and 25 < portrait.sum() < 80  # a third of the clips; half of a third
  alone = jax.vmap(lambda key: rigs.draw_view(key, motion, rigs.RIGS["h36m_rig"]))(keys)
  np.testing.assert_allclose(view.keypoints_px[h36m], alone.keypoints_px[h36m], atol=1e-2)  # and as the rig alone does
