"""Laws of choosing among hypotheses."""

import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.diffusion import hypotheses
from posynda_jax.geometry import camera, skeleton
from tests import scene


def test_the_true_pose_is_chosen_at_every_granularity():
  absolute, intrinsics = scene.poses((4, 3), 5), np.tile(scene.INTRINSICS, (4, 1))
  keypoints, confidence = camera.project(absolute, intrinsics), np.ones((4, 3, 17), np.float32)
  truth = skeleton.root_centre(absolute)
  wrong = truth + 0.2 * np.random.default_rng(0).normal(size=(2,) + truth.shape)
  poses = jnp.stack([wrong[0], truth, wrong[1]])
  roots = hypotheses.solve_roots(poses, keypoints, intrinsics, confidence)
  errors = hypotheses.reprojection_error(poses, roots, keypoints, intrinsics)
  for by in ("sequence", "frame"):
    index = hypotheses.choose(errors, confidence, by)
    assert (index == 1).all()
    np.testing.assert_array_equal(hypotheses.pick(poses, index), truth)
  true_root = jnp.asarray(absolute)[None, ..., 0, :]  # a wrong root can favour a wrong joint
  errors = hypotheses.reprojection_error(poses, true_root, keypoints, intrinsics)
  assert (hypotheses.choose(errors, confidence, "joint")[..., 1:] == 1).mean() > 0.95


@pytest.mark.parametrize("confidence, chosen", [([1.0, 1.0], 1), ([1.0, 0.0], 0)])
def test_a_joint_without_confidence_has_no_influence(confidence, chosen):
  errors = jnp.array([[0.1, 9.0], [0.2, 0.0]]).reshape(2, 1, 1, 2)
  assert (hypotheses.choose(errors, jnp.array(confidence).reshape(1, 1, 2), "frame") == chosen).all()


def test_unknown_selection_lists_the_choices():
  with pytest.raises(ValueError, match="sequence, frame, joint"):
    hypotheses.choose(jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1)), "video")
