"""Laws of a person's bones, seen over a recording, and of the choice among hypotheses by them."""

import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import clips, tracks
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import people, scoring
from posynda_jax.geometry import skeleton
from posynda_jax.geometry.measured import Measured
from tests import scene
from tests.adaptation.batches import answering, track
from tests.tolerance import assert_close

PARENT = np.array(skeleton.PARENTS[1:])


def recorded(num_frames: int, name: str, scale: float) -> tracks.Track:
  """A person of one size who turns before the camera."""
  turn = np.linspace(0, 2 * np.pi, num_frames)
  one = skeleton.root_centre(scene.poses((1,), 5))[0] * scale
  rotation = np.stack([np.stack([np.cos(turn), np.sin(turn)], -1), np.stack([-np.sin(turn), np.cos(turn)], -1)], -2)
  poses = np.array(np.broadcast_to(one, (num_frames, 17, 3)))
  poses[..., [0, 2]] = np.einsum("fij,kj->fki", rotation, one[:, [0, 2]])
  return track(poses + [0, 0, 4], subject="s", sequence=name)


def test_bones_that_some_frames_hide_are_seen_in_others_and_every_person_has_their_own():
  source = clips.ClipSource([recorded(45, "small", 0.8), recorded(45, "large", 1.1), recorded(20, "large", 1.1)], 9)
  every = source.take(range(len(source)))
  truth = np.asarray(skeleton.root_centre(every["poses"]))
  flat = truth.copy()
  flat[:, 1::3, :, 2] *= 0.3  # a third of the answers has too little depth
  config = scoring.SamplingConfig(num_hypotheses=4, select="bones")
  observe = people.make_observer(lambda weights: answering(every["keypoints"], flat), config)
  found = people.measure(observe, (), Measured(), source, 4)
  want = [np.asarray(skeleton.bone_lengths(track.arrays["poses"][0])) for track in source.tracks]
  np.testing.assert_allclose([track.arrays["body"] for track in found.tracks], want, rtol=0.03)
  clip = found.take([0, 6])
  assert clip["body"].shape == (2, 16) and len(found) == len(source)


def test_the_median_weighs_and_is_plain_without_weights():
  values, weight = np.array([[1.0, 5], [2, 6], [9, 7]]), np.array([[1.0, 0], [1, 0], [3, 0]])
  assert people.median(values, weight).tolist() == [9, 6]


def test_bones_are_chosen_one_by_one_from_the_hypotheses_that_have_the_persons_length():
  truth = np.asarray(skeleton.root_centre(scene.poses((2, 9))))
  bones = truth[..., 1:, :] - truth[..., PARENT, :]
  lengths = np.linalg.norm(bones, axis=-1)[:, 0]
  frozen = bones * (lengths[:, None] / np.linalg.norm(bones, axis=-1))[..., None]  # one body a clip
  wrong = np.stack([frozen.copy(), frozen.copy(), frozen.copy()])
  for bone in range(16):
    for h in {0, 1, 2} - {bone % 3}:
      wrong[h, ..., bone, :] *= 1.5 + h

  def together(bones):
    joints = [np.zeros(bones.shape[:-2] + (3,))]
    for bone, parent in enumerate(PARENT):
      joints.append(joints[parent] + bones[..., bone, :])
    return np.stack(joints, -2).astype(np.float32)

  found = hypotheses.by_bones(jnp.asarray(together(wrong)), jnp.asarray(lengths))
  np.testing.assert_allclose(found, together(frozen), atol=1e-3)
  one = jnp.asarray(truth)[None]
  assert_close(hypotheses.by_bones(one, jnp.asarray(lengths)), truth)


def test_the_rule_needs_people_who_were_measured():
  config = scoring.SamplingConfig(num_hypotheses=2, select="bones")
  clip = clips.ClipSource([recorded(9, "a", 1.0)], 9).take([0])
  with pytest.raises(ValueError, match="measure them first"):
    scoring.combine(jnp.zeros((2, 1, 9, 17, 3)), Measured(), clip, config)
