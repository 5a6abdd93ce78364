"""Laws of the virtual camera: the same rays, people as the source's cameras see them, and poses that come back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapt, synthesis
from posynda_jax.data import pipeline
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import camera, skeleton, virtual_camera
from tests import scene

FRAMES = 3
VIEW = (0.02, -0.1, 0.08, -0.23, 0.2)


def clips(num: int = 5, seed: int = 0, labelled: bool = True) -> dict:
  poses = scene.poses((num, FRAMES), seed)
  intrinsics = np.tile(scene.INTRINSICS, (num, 1))
  clip = {
      "keypoints": camera.project(poses, intrinsics), "intrinsics": intrinsics, "index": np.arange(num),
      "confidence": np.random.default_rng(seed).uniform(0.2, 1, (num, FRAMES, 17)).astype(np.float32),
      "valid": np.ones((num, FRAMES), np.float32),
  }
  return clip | ({"poses": poses} if labelled else {})


def test_a_virtual_camera_sees_the_same_people():
  clip = clips()
  seen, turn = virtual_camera.render_clip(clip, VIEW)
  np.testing.assert_allclose(camera.project(seen["poses"], seen["intrinsics"]), seen["keypoints"], atol=2e-5)
  np.testing.assert_allclose(virtual_camera.to_camera_axes(seen["poses"], turn), clip["poses"], atol=1e-5)
  np.testing.assert_allclose(turn @ jnp.swapaxes(turn, -1, -2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-6)
  assert set(virtual_camera.render_clip(clips(labelled=False), VIEW)[0]) == set(clip) - {"poses"}


def test_people_are_seen_where_and_as_large_as_the_view_says():
  clip = clips() | {"confidence": np.ones((5, FRAMES, 17), np.float32)}
  seen, _ = virtual_camera.render_clip(clip, VIEW)
  found = np.array([virtual_camera.measure_view(*(seen[name][i : i + 1] for name in ("keypoints", "poses", "valid"))) for i in range(5)])
  np.testing.assert_allclose(found[:, :2], np.tile(VIEW[:2], (5, 1)), atol=0.01)  # a mean of directions, not of x/z
  np.testing.assert_allclose(found[:, 2:], np.tile(VIEW[2:], (5, 1)), atol=2e-4)
  again, turn = virtual_camera.render_clip(seen, VIEW)
  np.testing.assert_allclose(turn, np.broadcast_to(np.eye(3), turn.shape), atol=1e-5)
  np.testing.assert_allclose(again["keypoints"], seen["keypoints"], atol=1e-5)


def test_what_the_filming_camera_was_does_not_matter():
  clip = clips()
  angle = 0.3
  pan = jnp.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])[None].repeat(5, 0)
  poses, intrinsics = virtual_camera.rotate_by_matrix(pan, clip["poses"]), np.tile([1.4, 1.4, 0.1, 0.2, 0, 0, 0, 0, 0], (5, 1)).astype(np.float32)
  other = clip | {"poses": poses, "intrinsics": intrinsics, "keypoints": camera.project(poses, intrinsics)}
  seen, seen_other = virtual_camera.render_clip(clip, VIEW)[0], virtual_camera.render_clip(other, VIEW)[0]
  np.testing.assert_allclose(seen_other["keypoints"], seen["keypoints"], atol=2e-4)
  np.testing.assert_allclose(seen_other["poses"], seen["poses"], atol=2e-3)


def test_unseen_joints_and_frames_do_not_move_the_camera():
  clip = clips()
  confidence, valid = clip["confidence"].copy(), clip["valid"].copy()
  confidence[:, :, 13], valid[:, 1] = 0, 0
  spoilt = np.array(clip["keypoints"])
  spoilt[:, :, 13] = 0.9
  spoilt[:, 1] = 0
  hidden = {"confidence": confidence, "valid": valid}
  turn, turn_spoilt = (virtual_camera.render_clip(clip | hidden | {"keypoints": k}, VIEW)[1] for k in (clip["keypoints"], spoilt))
  np.testing.assert_allclose(turn, turn_spoilt, atol=1e-5)
  nobody = clip | {"valid": np.zeros_like(valid), "keypoints": np.zeros_like(spoilt)}
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(virtual_camera.render_clip(nobody, VIEW)))


def test_lifting_through_a_virtual_camera_answers_in_the_axes_of_the_filming_one():
  clip = clips()
  truth = skeleton.root_centre(virtual_camera.render_clip(clip, VIEW)[0]["poses"])
  knows = lambda keypoints, noisy, t: truth
  config = evaluate.EvaluateConfig(view=VIEW)
  poses = evaluate.lift(knows, clip, jax.random.key(0), config)
  np.testing.assert_allclose(poses[0], skeleton.root_centre(clip["poses"]), atol=1e-5)
  own = evaluate.lift(knows, clip, jax.random.key(0), evaluate.EvaluateConfig())
  assert np.abs(own[0] - poses[0]).max() > 0.05
  assert "virtual camera" in evaluate.protocol("a/b_gt", "test", 15.0, config)["view"]


@pytest.mark.parametrize("view", [(), VIEW])
def test_the_body_of_unlabelled_people_is_read_off_their_2d(view):
  """Through poses that are right but for their bones: they are the source's, and the 2D is of others."""
  rng = np.random.default_rng(0)
  ratio = np.r_[0, rng.uniform(0.7, 1.3, 16)]
  ratio[[2, 3, 5, 6]] = 1  # legs of the source's length
  ratio[list(skeleton.LEFT)] = ratio[list(skeleton.RIGHT)]
  theirs = synthesis.resize(jnp.asarray(scene.poses((64, 9), 5)), jnp.asarray(ratio))
  own = np.array(skeleton.bone_lengths(theirs)).mean((0, 1)) / ratio[1:]
  intrinsics = np.tile(scene.INTRINSICS, (64, 1))
  track = {"keypoints": camera.project(theirs, intrinsics), "confidence": np.ones((64, 9, 17)), "valid": np.ones((64, 9))}
  tracks = [pipeline.Track({**{k: np.float32(v[i]) for k, v in track.items()}, "intrinsics": scene.INTRINSICS}, {}) for i in range(64)]
  source = pipeline.ClipSource(tracks, 9)
  clip = source.take(range(64)) | {"poses": theirs}
  seen = virtual_camera.render_clip(clip, view)[0] if view else clip
  believed = skeleton.root_centre(synthesis.resize(seen["poses"], jnp.asarray(1 / np.maximum(ratio, 0.1))))

  def knows(keypoints, noisy, t):
    which = ((keypoints[:, None] - seen["keypoints"][None]) ** 2).sum((2, 3, 4)).argmin(1)  # the clip, by its keypoints
    return believed[which]

  config = evaluate.EvaluateConfig(view=view, batch_size=8)
  found = evaluate.find_body(lambda weights: knows, None, source, tuple(own.tolist()), config)
  np.testing.assert_allclose(np.array(found) / own, ratio[1:], rtol=0.06)


def test_views_that_are_none_are_refused():
  for make in (adapt.AdaptConfig, evaluate.EvaluateConfig):
    with pytest.raises(ValueError, match="five numbers"):
      make(view=(1.0, 2.0))
  with pytest.raises(ValueError, match="no valid frame"):
    virtual_camera.measure_view(np.zeros((2, 3, 17, 2)), np.ones((2, 3, 17, 3)), np.zeros((2, 3)))


def test_a_config_without_what_came_later_is_described_as_before():
  assert "view" not in adapt.describe(adapt.AdaptConfig())
  assert adapt.describe(adapt.AdaptConfig(view=VIEW))["view"] == VIEW
  assert "adversarial_share" not in adapt.describe(adapt.AdaptConfig())
  assert adapt.describe(adapt.AdaptConfig(adversarial_share=0.0))["adversarial_share"] == 0.0
