"""BVH files move as their poses do, when the project's own parser reads them."""

import pathlib

import numpy as np
import pytest

from posynda_jax.datasets.mocap import bvh
from posynda_jax.geometry import skeleton
from posynda_jax.interop import bvh_writer
from tests import scene

LENGTHS = np.array([0.13, 0.45, 0.43, 0.13, 0.45, 0.43, 0.23, 0.25, 0.12, 0.12, 0.16, 0.28, 0.25, 0.16, 0.28, 0.25])
PARENTS = list(skeleton.PARENTS[1:])


def read_bvh(path: pathlib.Path, unit: float) -> tuple[np.ndarray, bvh.Bvh]:
  """Joint positions [T 17 3] (m, y up) of a file in `unit` units a metre, and the parsed file."""
  motion = bvh.parse_bvh(path.read_text(), path.name)
  positions, _ = bvh.forward(motion)
  return np.stack([positions[name] for name in skeleton.JOINTS], 1) / unit, motion


def chain(root: np.ndarray, directions: np.ndarray) -> np.ndarray:
  """Poses [T 17 3] with bones of LENGTHS in unit directions [T 16 3] from roots [T 3]."""
  poses = np.zeros((len(root), 17, 3))
  poses[:, 0] = root
  for joint, parent in enumerate(PARENTS, 1):
    poses[:, joint] = poses[:, parent] + LENGTHS[joint - 1] * directions[:, joint - 1]
  return poses


def random_poses(num_frames: int) -> np.ndarray:
  """Poses of constant bone lengths in random directions. The first is the T-pose, the second its opposite."""
  rng = np.random.default_rng(0)
  directions = rng.standard_normal((num_frames, 16, 3))
  directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
  rest = bvh_writer._REST[1:]
  directions[:2] = [rest, -rest]  # the opposite needs half turns everywhere
  return chain(rng.uniform(-2, 2, (num_frames, 3)), directions)


@pytest.mark.parametrize("unit, scale", [("cm", 100.0), ("m", 1.0)])
def test_bvh_returns_every_joint_where_bones_keep_their_lengths(unit, scale, tmp_path):
  poses = random_poses(60)
  if unit == "m":
    poses[:, 10] = poses[:, 9]  # a bone without length
  stray = bvh_writer.write(tmp_path / "a.bvh", poses, 25.0, unit)
  got, motion = read_bvh(tmp_path / "a.bvh", scale)
  np.testing.assert_allclose(got, poses, atol=1e-5)
  assert stray < 1e-9 and motion.fps == pytest.approx(25) and len(motion.values) == 60
  names = [joint.name for joint in motion.joints if "_to_" not in joint.name and not joint.name.endswith("_End")]
  assert sorted(names) == sorted(skeleton.JOINTS)
  np.testing.assert_allclose(motion.values[0, 6:], 0, atol=1e-4)  # the rest pose needs no rotation


def test_bvh_keeps_directions_and_mean_lengths_where_bones_vary(tmp_path):
  poses = (scene.motion(80) + [0, 0, 4]).astype(np.float32)
  stray = bvh_writer.write(tmp_path / "a.bvh", poses, 30.0)
  got, motion = read_bvh(tmp_path / "a.bvh", 100.0)
  bones, want = got[:, 1:] - got[:, PARENTS], poses[:, 1:] - poses[:, PARENTS]
  lengths = np.linalg.norm(want, axis=-1)
  np.testing.assert_allclose(np.linalg.norm(bones, axis=-1), [lengths.mean(0)] * len(lengths), atol=1e-5)
  np.testing.assert_allclose(bones / lengths.mean(0)[:, None], want / lengths[..., None], atol=1e-4)
  np.testing.assert_allclose(np.linalg.norm(got - poses, axis=-1).max(), stray, atol=1e-5)
  assert 0 < stray < 0.3 and np.abs(np.diff(motion.values[:, 3:], axis=0)).max() < 180  # no jumps of a full turn


@pytest.mark.parametrize("poses, fps, unit, message", [
    (np.full((3, 17, 3), np.nan), 25.0, "cm", "not finite"), (np.zeros((3, 16, 3)), 25.0, "cm", r"\(3, 16, 3\)"),
    (np.zeros((0, 17, 3)), 25.0, "cm", "T of 1"), (np.zeros((3, 17, 3)), 0.0, "cm", "positive rate"),
    (np.zeros((3, 17, 3)), 25.0, "feet", "unit 'feet'"),
])
def test_bvh_refuses_other_arrays_rates_and_units(tmp_path, poses, fps, unit, message):
  with pytest.raises(ValueError, match=message):
    bvh_writer.write(tmp_path / "a.bvh", poses, fps, unit)
  assert not (tmp_path / "a.bvh").exists()
