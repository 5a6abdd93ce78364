"""Laws of the procedural motion: constant bones, joint limits, smoothness, contact with the floor."""

import numpy as np
import pytest

from posynda_jax.datasets import load
from posynda_jax.datasets.synthetic_motion import body, families, kinematics
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
  return subject, families.draw_motion(rng, subject, family, 150, FPS)


def angle(pose: np.ndarray, a: int, b: int, c: int) -> np.ndarray:
  """Inner angle (degrees) at joint b."""
  u, v = pose[:, a] - pose[:, b], pose[:, c] - pose[:, b]
  cosine = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
  return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_performance_keeps_bones_floor_joint_limits_and_smoothness(family, seed):
  subject, poses = perform(family, seed)
  lengths = np.linalg.norm(poses[:, 1:] - poses[:, np.array(skeleton.PARENTS[1:])], axis=-1)
  np.testing.assert_allclose(lengths, np.tile(np.linalg.norm(subject.offsets[1:], axis=-1), (150, 1)), atol=1e-4)
  ankles = poses[:, [3, 6], 1].min(-1)
  assert ankles.min() > -0.02 and np.percentile(ankles, 20) < 0.25
  assert min(angle(poses, *leg).min() for leg in LEGS) > 20
  assert min(angle(poses, *arm).min() for arm in ARMS) > 15
  speed = np.linalg.norm(np.diff(poses, axis=0), axis=-1) * FPS
  assert speed.max() < 12, "metres per second"
  if family in ("gesturing", "reaching", "bending"):  # a foot that carries does not slide
    assert np.linalg.norm(np.diff(poses[:, [3, 6]][..., [0, 2]], axis=0), axis=-1).min(-1).mean() * FPS < 0.05
  acceleration = np.linalg.norm(np.diff(poses, n=2, axis=0), axis=-1) * FPS**2
  assert acceleration.max() < 150, "metres per second squared"
  to_the_left = poses[:, 4] - poses[:, 1]
  forward = np.cross(to_the_left, np.array([0, 1.0, 0]))
  for hip, knee, ankle in LEGS:
    hinge = np.cross(poses[:, knee] - poses[:, hip], poses[:, ankle] - poses[:, knee])
    assert (np.einsum("fc,fc->f", hinge, to_the_left) > 0).all(), "hyperextended knee"
    if family == "locomotion":  # the knee of a bent leg lies before the line from hip to ankle
      bow = poses[:, knee] - (poses[:, hip] + poses[:, ankle]) / 2
      bent = angle(poses, hip, knee, ankle) < 150
      assert (np.einsum("fc,fc->f", bow, forward)[bent] > 0).mean() > 0.95
  np.testing.assert_array_equal(perform(family, seed)[1], poses)
  assert np.abs(perform(family, seed + 9)[1] - poses).max() > 0.05


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
  drawn = families.FAMILIES[family](np.random.default_rng(5), np.arange(150) / FPS)
  angles = kinematics.limited(drawn, FPS)
  assert set(drawn) <= set(angles)
  for name, (low, high) in kinematics.LIMITS.items():
    assert low - 1e-5 <= angles[name].min() and angles[name].max() <= high + 1e-5, name


def test_the_elbow_of_a_hanging_arm_brings_the_wrist_forward():
  angles = dict.fromkeys((*kinematics.LIMITS, *kinematics.UNLIMITED), np.zeros(1))
  angles |= {"left_elbow": np.array([90.0]), "right_elbow": np.array([90.0])}
  pose = kinematics.forward(body.draw_body(np.random.default_rng(0), body.BodyRange()), angles)[0]
  for _, elbow, wrist in ARMS:  # at heading 0 the subject faces z
    forearm = pose[wrist] - pose[elbow]
    tolerance.assert_close(forearm / np.linalg.norm(forearm), np.array([0.0, 0, 1]), dtype=np.float64)


def test_domains_differ_and_splits_share_no_subject(data):
  def read(config, split):
    return load.load(f"synthetic_motion/{config}", split, data_dir=data.partition("=")[2])

  source, target, others = read("source_gt", "train"), read("target_gt", "train"), read("target_gt", "test")
  assert len(target) == builder.SUBJECTS["train"] * builder.SEQUENCES * 4
  projected = camera.project(target[0]["poses_camera_m"], target[0]["intrinsics"])
  np.testing.assert_allclose(projected, target[0]["keypoints_px"], atol=1e-2)
  assert not {r["subject"] for r in target[::16]} & {r["subject"] for r in others[::16]}
  lengths = [np.asarray(skeleton.bone_lengths(records[0]["poses_camera_m"][:1])) for records in (source, target)]
  assert np.abs(lengths[0] - lengths[1]).max() > 0.01
  for domain in builder.DOMAINS.values():
    assert set(domain.families) == set(families.FAMILIES) and min(domain.families.values()) > 0
