"""Rotation matrices from the angles that motion files carry. Angles are degrees, right-handed; `f` is frames."""

import numpy as np


def axis_rotation(axis: str, degrees) -> np.ndarray:
  """Matrices [f 3 3] that turn by `degrees` [f] about the coordinate axis "X", "Y" or "Z"."""
  angles = np.deg2rad(np.asarray(degrees, np.float64))
  i = "XYZ".index(axis)
  j, k = (i + 1) % 3, (i + 2) % 3
  rotation = np.zeros(angles.shape + (3, 3))
  rotation[..., i, i] = 1
  rotation[..., j, j] = rotation[..., k, k] = np.cos(angles)
  rotation[..., k, j] = np.sin(angles)
  rotation[..., j, k] = -rotation[..., k, j]
  return rotation


def compose(rotations) -> np.ndarray:
  """Product [f 3 3] of an iterable of [f 3 3], the first being the leftmost factor; the identity [3 3] for none."""
  product = None
  for rotation in rotations:
    product = rotation if product is None else product @ rotation
  return np.eye(3) if product is None else product
