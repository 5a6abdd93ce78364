"""Laws of skeleton, cameras and pose errors."""

import jax
import numpy as np
import pytest

from posynda_jax.geometry import camera, camera_tables, metrics, skeleton
from tests import scene
from tests.tolerance import assert_close

PROJECT, RAYS = jax.jit(camera.project), jax.jit(camera.rays)  # one program in place of one for each operation

def test_flip_twice_is_identity_and_exchanges_sides():
  pose = scene.poses((2, 3))
  np.testing.assert_array_equal(skeleton.flip(skeleton.flip(pose)), pose)
  assert skeleton.flip(pose)[0, 0, 13, 0] == -pose[0, 0, 16, 0]


def test_orders_of_17_joints_are_permutations_and_that_of_3dhp_is_the_published_one():
  for order in ("h36m17", "dhp17", "spin17"):
    assert sorted(skeleton.ORDERS[order]) == list(range(17))
  names = (
      "head_top neck r_sho r_elb r_wri l_sho l_elb l_wri r_hip r_knee r_ank l_hip l_knee l_ank pelvis spine head"
  ).split()
  ours = [names[i] for i in skeleton.ORDERS["dhp17"]]
  assert ours[:4] == ["pelvis", "r_hip", "r_knee", "r_ank"] and ours[8:11] == ["neck", "head", "head_top"]
  assert ours[13] == "l_wri" and ours[16] == "r_wri"
  with pytest.raises(ValueError, match="dhp17"):
    skeleton.to_h36m(np.zeros((17, 3)), "kinect")


def test_h36m_cameras_keep_distances_have_an_inverse_and_show_an_upright_person_at_the_origin_inside_the_image():
  points = scene.motion(4)[..., [0, 2, 1]] * np.float32([1, -1, 1])  # Z up

  @jax.jit
  def see(q, t, intrinsics):
    points_camera = camera.world_to_camera(points, q, t)
    return points_camera, camera.camera_to_world(points_camera, q, t), camera.project(points_camera, intrinsics)

  for cameras in camera_tables.H36M_EXTRINSICS.values():
    for name, pose in cameras.items():
      q, t = map(np.float32, pose)
      resolution, intrinsics = camera_tables.H36M_INTRINSICS[name]
      assert_close(np.linalg.norm(q), 1.0)
      points_camera, back, px = map(np.asarray, see(q, t, np.float32(intrinsics)))
      assert_close(back, points)
      assert_close(np.linalg.norm(points_camera, axis=-1), np.linalg.norm(points - t, axis=-1))
      assert points_camera[..., 2].min() > 3 and (px[:, 10, 1] < px[:, 3, 1]).all()
      assert (px > 0).all() and (px < np.array(resolution)).all()


def test_screen_normalisation_has_an_inverse_and_projecting_in_px_and_in_screen_units_agrees():
  px = np.random.default_rng(0).uniform(0, 1000, (3, 5, 17, 2)).astype(np.float32)
  resolutions, points = np.array([[1000, 1002], [1920, 1080], [1080, 1920]]), scene.poses((5,))
  back = jax.jit(lambda px: camera.unnormalise_screen(camera.normalise_screen(px, resolutions), resolutions))(px)
  assert_close(back, px)
  assert_close(camera.normalise_screen(np.array([[1000.0, 1002.0]]), resolutions[0]), np.array([[1, 1.002]]))

  @jax.jit
  def project(resolution, px):
    screen = camera.project(points, camera.normalise_intrinsics(px, resolution))
    return screen, camera.normalise_screen(camera.project(points, px), resolution)

  for parameters in camera_tables.H36M_INTRINSICS.values():
    assert_close(*project(*map(np.float32, parameters)))


def test_rays_of_a_projection_go_through_the_points_and_give_their_root():
  points = scene.poses((4, 6))
  intrinsics = np.tile(scene.INTRINSICS, (4, 1))
  rays, confidence = np.array(RAYS(PROJECT(points, intrinsics), intrinsics)), np.ones((4, 6, 17), np.float32)
  np.testing.assert_allclose(rays * points[..., 2:], points[..., :2], atol=1e-4)
  for _ in range(2):
    root = jax.jit(camera.solve_root)(skeleton.root_centre(points), rays, confidence)
    np.testing.assert_allclose(root, points[..., 0, :], atol=1e-4)
    rays[..., 16, :], confidence[..., 16] = 5, 0  # a wrong joint is ignored


def test_joints_of_a_frame_without_confidence_count_alike():
  points = scene.poses((5,))
  rays = points[..., :2] / points[..., 2:]
  confidence = np.ones((5, 17), np.float32)
  confidence[2] = 0
  root = jax.jit(camera.solve_root)(skeleton.root_centre(points), rays, confidence)
  np.testing.assert_allclose(root, points[..., 0, :], atol=1e-4)


def test_p_mpjpe_is_zero_under_any_similarity_but_not_under_a_reflection():
  rng = np.random.default_rng(0)
  pose = skeleton.root_centre(scene.poses((10,)))
  q = rng.normal(size=(10, 4)).astype(np.float32)
  q /= np.linalg.norm(q, axis=-1, keepdims=True)
  turned = np.asarray(jax.jit(camera.rotate)(q[:, None], pose))
  moved = np.float32(rng.uniform(0.3, 3, (10, 1, 1)) * turned + rng.normal(size=(10, 1, 3)))
  p_mpjpe, mpjpe, n_mpjpe = map(jax.jit, (metrics.p_mpjpe, metrics.mpjpe, metrics.n_mpjpe))
  assert_close(p_mpjpe(moved, pose), np.zeros(10))
  assert mpjpe(moved, pose).min() > 0.1
  assert p_mpjpe(pose * np.float32([-1, 1, 1]), pose).min() > 0.01
  assert_close(n_mpjpe(1.7 * pose, pose), np.zeros(10))


def test_rays_of_points_far_outside_the_image_are_finite_and_of_points_inside_exact():
  """A detector's miss may lie anywhere. With this distortion the unbounded iteration reached infinity at 3.2."""
  intrinsics = np.float32([2.291, 2.2895, 0.03, 0.0018, -0.1984, 0.2183, -0.0089, -0.0006, -0.0018])
  far = np.float32([[3.2, 3.2], [-9, 5], [40, -40]])
  assert np.isfinite(RAYS(far, intrinsics)).all()
  inside = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 2)).astype(np.float32)
  points = np.concatenate([inside, np.ones((50, 1), np.float32)], -1)
  np.testing.assert_allclose(RAYS(PROJECT(points, intrinsics), intrinsics), inside, atol=1e-5)
