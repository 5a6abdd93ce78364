"""Points from several views."""

import numpy as np

from posynda_jax.geometry import triangulation

RNG = np.random.default_rng(0)


def cameras(num_views: int) -> np.ndarray:
  """Projection matrices (px) of cameras around the origin, 4 m away."""
  found = []
  for angle in np.linspace(0, 2, num_views):
    rotation = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    outer = np.concatenate([rotation, [[0], [0], [4]]], 1)
    found.append(np.array([[1000, 0, 500], [0, 1000, 400], [0, 0, 1]]) @ outer)
  return np.stack(found)


def test_exact_views_give_the_points_back():
  points, views = RNG.uniform(-1, 1, (50, 3)), cameras(4)
  seen = triangulation.project(points, views)
  weight = np.ones(seen.shape[:2])
  weight[0, :10] = 0  # unseen in the first view
  found, residual = triangulation.triangulate(seen, weight, views)
  np.testing.assert_allclose(found, points, atol=1e-9)
  np.testing.assert_allclose(residual, 0, atol=1e-6)


def test_a_view_that_disagrees_is_left_out_and_too_few_views_give_no_point():
  points, views = RNG.uniform(-1, 1, (20, 3)), cameras(4)
  seen, weight = triangulation.project(points, views), np.ones((4, 20))
  seen[2, :5] += 200
  weight[1:, 19] = 0
  found, residual = triangulation.triangulate(seen, weight, views)
  np.testing.assert_allclose(found[:19], points[:19], atol=1e-9)
  assert np.isnan(found[19]).all() and residual[19] == np.inf


def test_views_that_start_late_are_found():
  late, views = [0, 2, -3, 0], cameras(4)
  time = np.arange(80)[:, None, None]
  motion = RNG.uniform(-0.5, 0.5, (1, 6, 3)) + 0.3 * np.sin(time / 4 + RNG.uniform(0, 6, (1, 6, 3)))
  seen = []
  for offset, view in zip(late, views):
    part = motion[10 - offset : 70 - offset]
    image = triangulation.project(part.reshape(-1, 3), view[None])[0].reshape(60, 6, 2)
    seen.append(np.concatenate([image, np.ones((60, 6, 1))], -1))
  points, residual, found = triangulation.synchronise(seen, views)
  assert found == late
  np.testing.assert_allclose(points[4:-4], motion[14:66], atol=1e-6)
  assert residual[4:-4].max() < 1e-6
