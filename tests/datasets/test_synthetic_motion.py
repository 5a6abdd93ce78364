"""Laws of the procedural motion: bodies keep their bones, joints their limits, frames their neighbours."""

import numpy as np
import pytest

from posynda_jax.datasets import load
from posynda_jax.datasets.synthetic_motion import body, kinematics, motion
from posynda_jax.datasets.synthetic_motion import synthetic_motion_dataset_builder as builder
from posynda_jax.geometry import camera, skeleton

FPS = 50.0


def perform(family: str, seed: int = 0, domain: str = "target") -> np.ndarray:
  rng = np.random.default_rng(seed)
  return motion.draw_motion(rng, body.draw_body(rng, builder.DOMAINS[domain].bodies), family, 150, FPS)


def angle(pose: np.ndarray, a: int, b: int, c: int) -> np.ndarray:
  """Inner angle (degrees) at joint b."""
  u, v = pose[:, a] - pose[:, b], pose[:, c] - pose[:, b]
  cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
  return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("family", motion.FAMILIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bodies_keep_their_bones_and_stay_on_the_floor(family, seed):
  poses = perform(family, seed)
  lengths = np.asarray(skeleton.bone_lengths(poses))
  np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:1], lengths.shape), atol=1e-4)
  np.testing.assert_allclose(lengths[0, np.array(skeleton.LEFT) - 1], lengths[0, np.array(skeleton.RIGHT) - 1], atol=1e-4)
  ranges = body.length_ranges(builder.DOMAINS["target"].bodies)
  assert (lengths[0] > ranges[:, 0] - 1e-4).all() and (lengths[0] < ranges[:, 1] + 1e-4).all()
  ankles = poses[:, [3, 6], 1].min(-1)
  assert ankles.min() > -0.02 and np.percentile(ankles, 20) < 0.25


@pytest.mark.parametrize("family", motion.FAMILIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_joints_keep_their_limits_and_motion_is_smooth(family, seed):
  poses = perform(family, seed)
  for hip, knee, ankle in ((1, 2, 3), (4, 5, 6)):
    assert angle(poses, hip, knee, ankle).min() > 20
  for shoulder, elbow, wrist in ((11, 12, 13), (14, 15, 16)):
    assert angle(poses, shoulder, elbow, wrist).min() > 15
  speed = np.linalg.norm(np.diff(poses, axis=0), axis=-1) * FPS
  assert speed.max() < 12, "metres per second"
  acceleration = np.linalg.norm(np.diff(poses, n=2, axis=0), axis=-1) * FPS**2
  assert acceleration.max() < 150, "metres per second squared"


@pytest.mark.parametrize("family", motion.FAMILIES)
def test_angles_stay_within_their_limits(family):
  angles = motion.draw_angles(np.random.default_rng(5), family, 150, FPS)
  for name, (low, high) in kinematics.LIMITS.items():
    assert low - 1e-6 <= angles[name].min() and angles[name].max() <= high + 1e-6, name


@pytest.mark.parametrize("family", motion.FAMILIES)
def test_no_knee_is_hyperextended(family):
  for seed in range(3):
    poses = perform(family, seed)
    to_the_left = poses[:, 4] - poses[:, 1]
    for hip, knee, ankle in ((1, 2, 3), (4, 5, 6)):
      hinge = np.cross(poses[:, knee] - poses[:, hip], poses[:, ankle] - poses[:, knee])
      assert (np.einsum("fc,fc->f", hinge, to_the_left) > 0).all()


def test_the_elbow_of_a_hanging_arm_brings_the_wrist_forward():
  angles = dict.fromkeys((*kinematics.LIMITS, *kinematics.UNLIMITED), np.zeros(1))
  angles |= {"left_elbow": np.array([90.0]), "right_elbow": np.array([90.0])}
  pose = kinematics.forward(body.draw_body(np.random.default_rng(0), body.BodyRange()), angles)[0]
  for elbow, wrist in ((12, 13), (15, 16)):  # heading 0 looks along z
    forearm = pose[wrist] - pose[elbow]
    np.testing.assert_allclose(forearm / np.linalg.norm(forearm), [0, 0, 1], atol=1e-9)


def test_a_foot_that_carries_does_not_slide():
  rng = np.random.default_rng(1)
  subject = body.draw_body(rng, body.BodyRange())
  for family in ("gesturing", "reaching", "bending"):
    poses = motion.draw_motion(rng, subject, family, 150, FPS)
    speed = np.linalg.norm(np.diff(poses[:, [3, 6]][..., [0, 2]], axis=0), axis=-1) * FPS
    assert speed.min(-1).mean() < 0.05, "metres per second"


@pytest.mark.parametrize("domain", builder.DOMAINS)
def test_every_family_has_a_share_in_every_domain(domain):
  shares = builder.DOMAINS[domain].families
  assert set(shares) == set(motion.FAMILIES) and min(shares.values()) > 0


@pytest.mark.parametrize("seed", range(4))
def test_knees_bend_backward_in_a_walk(seed):
  poses = perform("locomotion", seed)
  forward = np.cross(poses[:, 4] - poses[:, 1], np.array([0, 1.0, 0]))
  for hip, knee, ankle in ((1, 2, 3), (4, 5, 6)):
    bent = angle(poses, hip, knee, ankle) < 150
    bow = poses[:, knee] - (poses[:, hip] + poses[:, ankle]) / 2  # the knee lies before the line from hip to ankle
    assert (np.einsum("fc,fc->f", bow, forward)[bent] > 0).mean() > 0.95


def test_the_same_seed_is_the_same_motion_and_another_is_not():
  np.testing.assert_array_equal(perform("kicking", 3), perform("kicking", 3))
  assert np.abs(perform("kicking", 3) - perform("kicking", 4)).max() > 0.05


def test_an_unknown_family_lists_the_choices():
  with pytest.raises(ValueError, match="locomotion"):
    motion.draw_angles(np.random.default_rng(0), "swimming", 10, FPS)


def test_domains_differ_and_splits_share_no_subject(tmp_path, monkeypatch):
  monkeypatch.setattr(builder, "SUBJECTS", {"train": 2, "test": 1})
  monkeypatch.setattr(builder, "NUM_FRAMES", 30)
  read = lambda config, split: load.load(f"synthetic_motion/{config}", split, data_dir=tmp_path)
  views, noisy = read("target_gt", "train"), read("target_detected", "train")
  assert len(views) == 2 * builder.SEQUENCES * 4
  for exact, seen in zip(views[:6], noisy[:6], strict=True):
    np.testing.assert_array_equal(exact["poses_camera_m"], seen["poses_camera_m"])
    assert exact["confidence"].min() == 1 and seen["confidence"].min() < 1
    projected = camera.project(exact["poses_camera_m"], exact["intrinsics"])
    np.testing.assert_allclose(projected, exact["keypoints_px"], atol=1e-2)
    assert 1 < np.linalg.norm(exact["keypoints_px"] - seen["keypoints_px"], axis=-1).mean() < 60
  subjects = [{r["subject"] for r in read("source_world", split)} for split in ("train", "test")]
  assert not subjects[0] & subjects[1]
  worlds = [read(f"{domain}_world", "train") for domain in ("source", "target")]
  lengths = [np.asarray(skeleton.bone_lengths(w[0]["poses_world_m"][0])) for w in worlds]
  assert np.abs(lengths[0] - lengths[1]).max() > 0.01
