"""Calibrations that Qualisys Track Manager writes, as Pose2Sim's demonstration has one."""

from xml.etree import ElementTree

import numpy as np

_UNIT = 64  # of sub-pixels in a pixel


def read_calibration(path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """{camera: (intrinsics [fx fy cx cy] px, [R | t] [3 4] from the world to the camera, metres)} of a Qualisys file."""
  found = {}
  for camera in ElementTree.parse(path).getroot().iter("camera"):
    inner, outer = camera.find("intrinsic").attrib, camera.find("transform").attrib
    names = ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    intrinsics = np.array([float(inner[name]) / _UNIT for name in names])
    axes = np.array([[float(outer[f"r{i}{j}"]) for j in (1, 2, 3)] for i in (1, 2, 3)])  # rows: the camera's axes
    position = np.array([float(outer[axis]) / 1000 for axis in "xyz"])
    rotation = np.diag([1.0, -1.0, -1.0]) @ axes  # Qualisys looks along -z, with y up
    found[camera.attrib["serial"]] = intrinsics, np.concatenate([rotation, -(rotation @ position)[:, None]], 1)
  return found
