"""Laws of correcting a pose by its keypoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.geometry import body, camera, skeleton
from tests import scene
from tests.tolerance import assert_close

PROJECT, ONTO_RAYS, FIT = map(jax.jit, (camera.project, body.onto_rays, body.fit_body))
POSES = scene.poses((4, 3), 5)
TRUTH = np.asarray(skeleton.root_centre(POSES))
LENGTHS = np.asarray(skeleton.bone_lengths(TRUTH))
INTRINSICS = np.tile(scene.INTRINSICS, (4, 1))
KEYPOINTS = np.asarray(PROJECT(POSES, INTRINSICS))
OBSERVED = (KEYPOINTS, INTRINSICS, np.ones((4, 3, 17), np.float32))


def error(pose) -> float:
  return np.linalg.norm(pose - TRUTH, axis=-1).mean()


def test_moving_joints_onto_their_rays_keeps_the_truth_and_corrects_errors_across_the_image():
  np.testing.assert_allclose(ONTO_RAYS(TRUTH, *OBSERVED), TRUTH, atol=2e-4)
  off = np.float32(TRUTH + [0.05, 0.05, 0] * np.random.default_rng(0).normal(size=TRUTH.shape))
  assert error(ONTO_RAYS(off, *OBSERVED)) < 0.5 * error(off)


def test_fitting_a_body_keeps_the_truth_corrects_size_and_ignores_keypoints_without_confidence():
  np.testing.assert_allclose(FIT(TRUTH, *OBSERVED, LENGTHS), TRUTH, atol=1e-3)
  small = 0.8 * TRUTH  # nearer to the camera, it has almost the same projection
  assert error(FIT(small, *OBSERVED, LENGTHS)) < 0.35 * error(small)
  doubted, wrong = OBSERVED[2].copy(), KEYPOINTS.copy()
  doubted[..., [13, 16]] = 0
  wrong[..., [13, 16], :] += 0.3
  fitted = [FIT(small, keypoints, INTRINSICS, doubted, LENGTHS) for keypoints in (KEYPOINTS, wrong)]
  assert_close(*fitted)
  assert error(fitted[0]) < 0.45 * error(small)


def test_a_bone_weighs_by_the_confidence_of_both_ends_and_by_its_share_across_the_line_of_sight():
  hidden = np.ones_like(OBSERVED[2])
  hidden[..., 13] = 0
  lengths, weight = jax.jit(body.observed_bones)(TRUTH, KEYPOINTS, INTRINSICS, hidden)
  np.testing.assert_allclose(lengths[..., :12], LENGTHS[..., :12], atol=1e-3)
  assert ((0 <= weight) & (weight <= 1)).all() and not weight[..., 12].any() and weight[..., 11].any()
  along = (TRUTH[..., 1, 2] - TRUTH[..., 0, 2]) / LENGTHS[..., 0]
  np.testing.assert_allclose(weight[..., 0], (1 - along**2) ** 2, atol=1e-3)


def test_the_weighted_median_is_the_first_value_with_half_of_the_weight():
  values, weight = jnp.array([[3.0, 1], [1, 2], [2, 9]]), jnp.array([[1.0, 0], [1, 1], [1, 1]])
  np.testing.assert_array_equal(body.weighted_median(values, weight), [2, 2])


@pytest.mark.parametrize("given, message", [
    (("bones", ()), "refine 'bones' is unknown; choose one of none, rays, body"),
    (("body", ()), "needs 16 bone lengths in metres, 0 are given"),
])
def test_a_refinement_that_cannot_be_done_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    body.check_refinement(*given)
