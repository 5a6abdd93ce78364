"""A walking person for the small files in official formats that the tests read."""

import numpy as np

from posynda_jax.datasets.synthetic_motion import body, families


def walk(rng: np.random.Generator, num_frames: int, fps: float) -> np.ndarray:
  """World poses [num_frames 17 3] float32 (m, y up, floor y = 0) of a random person who walks past the origin."""
  return families.draw_motion(rng, body.draw_body(rng, body.BodyRange()), "locomotion", num_frames, fps)


def among(poses: np.ndarray, places, num_joints: int) -> np.ndarray:
  """Poses [t j 3] as points [t num_joints 3] at the indices `places` [j]. The other points are 5 to 9 from joint 0."""
  points = np.repeat(poses[:, :1], num_joints, 1) + np.linspace(5, 9, num_joints, dtype=poses.dtype)[:, None]
  points[:, list(places)] = poses
  return points


def mirrored(names) -> list[int]:
  """Index of each joint's counterpart on the other side of the body, by name."""
  names = list(names)
  return [names.index(n.replace("left", "?").replace("right", "left").replace("?", "right")) for n in names]
