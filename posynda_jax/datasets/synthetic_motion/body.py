"""Bodies for procedural motion: a subject's bone lengths, drawn from the ranges of a population.

A subject is a stature, and each bone as a share of it, equal on both sides. Offsets are metres in the rest pose
(standing, arms hanging): x to the subject's left, y up, z forward, joints in the Human3.6M-17 order.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

Range = tuple[float, float]


def _around(share: float, spread: float = 0.05) -> Range:
  return (share * (1 - spread), share * (1 + spread))


@dataclasses.dataclass(frozen=True)
class BodyRange:
  """A population: uniform ranges of the stature (m) and of each bone as a share of it.

  The defaults are Human3.6M's mean skeleton over 1.75 m. `torso` is the length from hip to thorax along the spine,
  `torso_split` the share of it below the spine joint. `hip` and `shoulder` are half widths (root to hip, thorax to
  shoulder). `neck_tilt_deg` leans the bone from thorax to neck forward, because datasets differ in the place of their
  neck joint, from the base of the skull to the nose.
  """

  stature_m: Range = (1.60, 1.90)
  thigh: Range = _around(0.253)
  shin: Range = _around(0.255)
  torso: Range = _around(0.280)
  neck: Range = _around(0.069)
  head: Range = _around(0.066)
  hip: Range = _around(0.074)
  shoulder: Range = _around(0.086)
  upper_arm: Range = _around(0.160)
  forearm: Range = _around(0.143)
  torso_split: Range = (0.45, 0.50)
  neck_tilt_deg: Range = (20.0, 32.0)


class Body(NamedTuple):
  """One subject: `offsets` [17 3] (m) from each joint's parent at rest, zero for the root; the ankles' height (m)."""

  offsets: np.ndarray
  ankle_height: float


def draw_body(rng: np.random.Generator, bodies: BodyRange) -> Body:
  """A subject of the population `bodies`."""
  draw = {field.name: rng.uniform(*getattr(bodies, field.name)) for field in dataclasses.fields(bodies)}
  tilt, split = np.deg2rad(draw["neck_tilt_deg"]), draw["torso_split"]

  def along(share, *direction):
    return share * draw["stature_m"] * np.array(direction) / np.linalg.norm(direction)

  offsets = np.zeros((17, 3))
  for side, hip, shoulder in ((1, 4, 11), (-1, 1, 14)):
    offsets[hip] = along(draw["hip"], side, 0, 0)
    offsets[shoulder] = along(draw["shoulder"], side, -0.2, -0.05)
    limbs = {hip + 1: "thigh", hip + 2: "shin", shoulder + 1: "upper_arm", shoulder + 2: "forearm"}
    for joint, name in limbs.items():
      offsets[joint] = along(draw[name], 0, -1, 0)
  offsets[7] = along(draw["torso"] * split, 0, 1, -0.06)
  offsets[8] = along(draw["torso"] * (1 - split), 0, 1, -0.02)
  offsets[9] = along(draw["neck"], 0, np.cos(tilt), np.sin(tilt))
  offsets[10] = along(draw["head"], 0, 1, -0.15)
  return Body(offsets, ankle_height=0.042 * draw["stature_m"])
