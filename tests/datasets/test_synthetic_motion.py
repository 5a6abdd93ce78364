"""Laws of the procedural motion: constant bones, joint limits, smoothness, contact with the floor."""

import numpy as np
import pytest

from posynda_jax.datasets import load
from posynda_jax.datasets.synthetic_motion import body, families, kinematics, motion
from posynda_jax.datasets.synthetic_motion import synthetic_motion_dataset_builder as builder
from posynda_jax.geometry import camera, skeleton
from tests import tolerance

FPS = 50.0
LEGS = ((1, 2, 3), (4, 5, 6))  # hip, knee, ankle
ARMS = ((11, 12, 13), (14, 15, 16))


def perform(family: str, seed: int = 0) -> tuple[body.Body, np.ndarray]:
  """A subject of the target domain, and its poses in one performance."""
  rng = np.random.default_rng(seed)
  subject = body.draw_body(rng, builder.DOMAINS["target"].bodies)
  return subject, motion.draw_motion(rng, subject, family, 150, FPS)


def angle(pose: np.ndarray, a: int, b: int, c: int) -> np.ndarray:
  """Inner angle (degrees) at joint b."""
  u, v = pose[:, a] - pose[:, b], pose[:, c] - pose[:, b]
  cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
  return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_performance_keeps_bones_floor_joint_limits_and_smoothness(family, seed):
  subject, poses = perform(family, seed)
  lengths = np.asarray(skeleton.bone_lengths(poses))
  np.testing.assert_allclose(lengths, np.tile(np.linalg.norm(subject.offsets[1:], axis=-1), (150, 1)), atol=1e-4)
  ankles = poses[:, [3, 6], 1].min(-1)
  assert ankles.min() > -0.02 and np.percentile(ankles, 20) < 0.25
  assert min(angle(poses, *leg).min() for leg in LEGS) > 20
  assert min(angle(poses, *arm).min() for arm in ARMS) > 15
  speed = np.linalg.norm(np.diff(poses, axis=0), axis=-1) * FPS
  assert speed.max() < 12, "metres per second"
  acceleration = np.linalg.norm(np.diff(poses, n=2, axis=0), axis=-1) * FPS**2
  assert acceleration.max() < 150, "metres per second squared"
  to_the_left = poses[:, 4] - poses[:, 1]
  for hip, knee, ankle in LEGS:
    hinge = np.cross(poses[:, knee] - poses[:, hip], poses[:, ankle] - poses[:, knee])
    assert (np.einsum("fc,fc->f", hinge, to_the_left) > 0).all(), "hyperextended knee"


def test_both_sides_of_a_body_are_equal_and_in_the_ranges_of_its_population():
  bodies = builder.DOMAINS["target"].bodies
  for seed in range(10):
    lengths = np.linalg.norm(body.draw_body(np.random.default_rng(seed), bodies).offsets, axis=-1)
    tolerance.assert_close(lengths[list(skeleton.LEFT)], lengths[list(skeleton.RIGHT)], dtype=np.float64)
    for joint, name in ((4, "hip"), (5, "thigh"), (6, "shin"), (11, "shoulder"), (12, "upper_arm"), (13, "forearm")):
      low, high = np.array(getattr(bodies, name)) * bodies.stature_m
      assert low - 1e-5 <= lengths[joint] <= high + 1e-5, name


@pytest.mark.parametrize("family", families.FAMILIES)
def test_angles_stay_within_their_limits(family):
  angles = motion.draw_angles(np.random.default_rng(5), family, 150, FPS)
  for name, (low, high) in kinematics.LIMITS.items():
    assert low - 1e-5 <= angles[name].min() and angles[name].max() <= high + 1e-5, name


def test_the_elbow_of_a_hanging_arm_brings_the_wrist_forward():
  angles = dict.fromkeys((*kinematics.LIMITS, *kinematics.UNLIMITED), np.zeros(1))
  angles |= {"left_elbow": np.array([90.0]), "right_elbow": np.array([90.0])}
  pose = kinematics.forward(body.draw_body(np.random.default_rng(0), body.BodyRange()), angles)[0]
  for _, elbow, wrist in ARMS:  # at heading 0 the subject faces z
    forearm = pose[wrist] - pose[elbow]
    tolerance.assert_close(forearm / np.linalg.norm(forearm), np.array([0.0, 0, 1]), dtype=np.float64)


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
  assert set(shares) == set(families.FAMILIES) and min(shares.values()) > 0


@pytest.mark.parametrize("seed", range(4))
def test_knees_bend_backward_in_a_walk(seed):
  _, poses = perform("locomotion", seed)
  forward = np.cross(poses[:, 4] - poses[:, 1], np.array([0, 1.0, 0]))
  for hip, knee, ankle in LEGS:
    bent = angle(poses, hip, knee, ankle) < 150
    bow = poses[:, knee] - (poses[:, hip] + poses[:, ankle]) / 2  # the knee lies before the line from hip to ankle
    assert (np.einsum("fc,fc->f", bow, forward)[bent] > 0).mean() > 0.95


def test_the_same_seed_is_the_same_motion_and_another_is_not():
  first, again, other = (perform("kicking", seed)[1] for seed in (3, 3, 4))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.05


def test_an_unknown_family_lists_the_choices():
  with pytest.raises(ValueError, match="locomotion"):
    motion.draw_angles(np.random.default_rng(0), "swimming", 10, FPS)


def test_domains_differ_and_splits_share_no_subject(tmp_path, monkeypatch):
  monkeypatch.setattr(builder, "SUBJECTS", {"train": 2, "test": 1})
  monkeypatch.setattr(builder, "NUM_FRAMES", 30)

  def read(config, split):
    return load.load(f"synthetic_motion/{config}", split, data_dir=tmp_path)

  views, noisy = read("target_gt", "train"), read("target_detected", "train")
  assert len(views) == 2 * builder.SEQUENCES * 4
  for exact, detected in zip(views[:6], noisy[:6], strict=True):
    tolerance.assert_close(exact["poses_camera_m"], detected["poses_camera_m"])
    assert exact["confidence"].min() == 1 and detected["confidence"].min() < 1
    projected = camera.project(exact["poses_camera_m"], exact["intrinsics"])
    np.testing.assert_allclose(projected, exact["keypoints_px"], atol=1e-2)
    assert 1 < np.linalg.norm(exact["keypoints_px"] - detected["keypoints_px"], axis=-1).mean() < 60
  subjects = [{r["subject"] for r in read("source_world", split)} for split in ("train", "test")]
  assert not subjects[0] & subjects[1]
  worlds = [read(f"{domain}_world", "train") for domain in ("source", "target")]
  lengths = [np.asarray(skeleton.bone_lengths(w[0]["poses_world_m"][0])) for w in worlds]
  assert np.abs(lengths[0] - lengths[1]).max() > 0.01
