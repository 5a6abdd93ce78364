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
