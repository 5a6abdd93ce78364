"""Lifted motion as tables: TRC, which OpenSim and Pose2Sim read, and joint angles as CSV."""

import csv
import io

import numpy as np

from posynda_jax.geometry import gravity, skeleton
from posynda_jax.runtime import files


def write_trc(path, joints: np.ndarray, fps: float, first_frame: int = 0) -> None:
  """Writes joints [T 17 3] (m, y up) as a TRC file of 17 markers."""
  file = io.StringIO()
  names = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame",
           "OrigNumFrames")
  values = (f"{fps:g}", f"{fps:g}", len(joints), 17, "m", f"{fps:g}", first_frame + 1, len(joints))
  file.write(f"PathFileType\t4\t(X/Y/Z)\t{getattr(path, 'name', path)}\n")
  file.write("\t".join(names) + "\n" + "\t".join(map(str, values)) + "\n")
  file.write("Frame#\tTime\t" + "\t\t\t".join(skeleton.JOINTS) + "\t\t\n")
  file.write("\t\t" + "\t".join(f"{axis}{i}" for i in range(1, 18) for axis in "XYZ") + "\n\n")
  for t, row in enumerate(joints.reshape(len(joints), -1)):
    file.write(f"{t + 1}\t{t / fps:.6f}\t" + "\t".join(f"{value:.6f}" for value in row) + "\n")
  with files.writing(path) as out:
    out.write(file.getvalue().encode())


def write_angles(path, poses: np.ndarray, fps: float, first_frame: int = 0) -> None:
  """Writes the angles of `gravity.joint_angles` of poses [T 17 3] as CSV: a row a frame, degrees."""
  angles = gravity.joint_angles(poses)
  file = io.StringIO()
  table = csv.writer(file, lineterminator="\n")
  table.writerow(["frame", "time_s", *(f"{name}_deg" for name in angles)])
  for t, row in enumerate(np.stack(list(angles.values()), 1)):
    table.writerow([first_frame + t, f"{t / fps:.6f}", *(f"{value:.2f}" for value in row)])
  with files.writing(path) as out:
    out.write(file.getvalue().encode())
