"""A calibration of Qualisys gives back the cameras that were written into it."""

import numpy as np
from scipy.spatial.transform import Rotation

from posynda_jax.interop import qualisys

INTRINSICS = np.array([1600.0, 1610.0, 540.0, 960.0])


def test_cameras_are_read_in_pixels_and_metres_with_y_down_and_z_ahead(tmp_path):
  """The file has camera axes with y up and -z ahead, positions in mm, and 64 sub-pixels a pixel."""
  turn, position = Rotation.from_euler("xyz", (15, 40, 3), degrees=True).as_matrix(), np.array([1.0, -2.0, 0.5])
  axes = np.diag([1, -1, -1]) @ turn
  names = " ".join(f'r{a + 1}{b + 1}="{axes[a, b]}"' for a, b in np.ndindex(3, 3))
  place = " ".join(f'{axis}="{1000 * value}"' for axis, value in zip("xyz", position))
  inner = " ".join(f'{name}="{64 * value}"' for name, value in zip(
      ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV"), INTRINSICS))
  (tmp_path / "a.txt").write_text(
      f'<calibration><cameras><camera serial="one"><transform {names} {place}/><intrinsic {inner}/></camera>'
      "</cameras></calibration>")
  intrinsics, outer = qualisys.read_calibration(tmp_path / "a.txt")["one"]
  np.testing.assert_allclose(intrinsics, INTRINSICS)
  np.testing.assert_allclose(outer[:, :3], turn, atol=1e-12)
  np.testing.assert_allclose(outer[:, :3] @ position + outer[:, 3], 0, atol=1e-12)
