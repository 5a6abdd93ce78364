"""3D points from several calibrated views: linear triangulation that leaves out a view that disagrees."""

import itertools

import numpy as np
from jaxtyping import Float

LEAST_VIEWS = 2
_DISAGREES_PX = 20.0  # mean residual above which a view may be left out


def triangulate(
    points: Float[np.ndarray, "v n 2"], weight: Float[np.ndarray, "v n"], cameras: Float[np.ndarray, "v 3 4"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
  """(points in the world's unit, mean residuals in px) of n points seen by v views (px, undistorted).

  `cameras` are projection matrices. A point's views weigh by `weight`; weight 0 is unseen. Where the residual is large
  and three views would be left, the best three or more of them count. Points with fewer than two views are NaN.
  """
  best, residual = _solve(points, weight, cameras)
  num_views = len(points)
  for left_out in itertools.chain.from_iterable(
      itertools.combinations(range(num_views), k) for k in range(1, num_views - 2)):
    kept = weight.copy()
    kept[list(left_out)] = 0
    found, error = _solve(points, kept, cameras)
    better = (residual > _DISAGREES_PX) & (error < residual / 2)
    best[better], residual[better] = found[better], error[better]
  return best, residual


def _solve(points, weight, cameras):
  """Weighted linear solutions [n 3] and their mean residuals [n] (px)."""
  rows = weight[..., None, None] * np.stack([  # v n 2 4
      points[..., :1] * cameras[:, None, 2] - cameras[:, None, 0],
      points[..., 1:] * cameras[:, None, 2] - cameras[:, None, 1],
  ], 2)
  system = np.moveaxis(rows, 0, 1).reshape(points.shape[1], -1, 4)
  _, _, right = np.linalg.svd(system)
  found = right[:, -1, :3] / right[:, -1, 3:]
  projected = project(found, cameras)
  seen = weight > 0
  distance = np.linalg.norm(projected - points, axis=-1)
  residual = (distance * weight).sum(0) / np.maximum(weight.sum(0), 1e-9)
  alone = seen.sum(0) < LEAST_VIEWS
  return np.where(alone[:, None], np.nan, found), np.where(alone, np.inf, residual)


def synchronise(
    seen: list[Float[np.ndarray, "t k 3"]], cameras: Float[np.ndarray, "v 3 4"], most: int = 6
) -> tuple[Float[np.ndarray, "t k 3"], Float[np.ndarray, "t k"], list[int]]:
  """(points, residuals (px), frames by which each view is late) of k joints (px and weight) in views whose clocks may
  differ by `most` frames. The first view is the clock; a view that is late shows frame t at t + late.
  """
  late, num_frames = [0] * len(seen), min(map(len, seen))

  def solve(views, how):
    rows = {view: np.clip(np.arange(num_frames) + late[view], 0, len(seen[view]) - 1) for view in views}
    flat = np.stack([seen[view][at].reshape(-1, 3) for view, at in rows.items()])
    points, residual = how(flat[..., :2], flat[..., 2], cameras[list(views)])
    return points.reshape(num_frames, -1, 3), residual.reshape(num_frames, -1)

  everyone = range(len(seen))
  for together in (False, True):  # each view beside the clock alone, then beside all
    for view in everyone[1:]:
      errors = {}
      for late[view] in range(-most, most + 1):
        errors[late[view]] = np.median(solve(everyone if together else (0, view), _solve)[1])
      late[view] = min(errors, key=errors.get)
  return *solve(everyone, triangulate), late


def project(points: Float[np.ndarray, "n 3"], cameras: Float[np.ndarray, "v 3 4"]) -> Float[np.ndarray, "v n 2"]:
  """Images (px) of the points in each view."""
  image = np.einsum("vij,nj->vni", cameras, np.concatenate([points, np.ones((len(points), 1))], -1))
  return image[..., :2] / image[..., 2:]
