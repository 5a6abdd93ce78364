"""Bodies for procedural motion: how long the bones of one subject are, and from which ranges a population is drawn.

A subject is drawn once: a nominal stature, then each bone as a share of it, equal on both sides. Offsets are metres in the
rest pose (standing, arms hanging): x to the subject's left, y up, z forward, joints in the Human3.6M-17 order.
"""

import dataclasses

import numpy as np

Range = tuple[float, float]

# Shares of stature of a well-known adult: Human3.6M's mean skeleton over 1.75 m. Hip and shoulder widths are halves.
_ADULT = {
    "thigh": 0.253, "shin": 0.255, "torso": 0.280, "neck": 0.069, "head": 0.066, "hip": 0.074, "shoulder": 0.086,
    "upper_arm": 0.160, "forearm": 0.143,
}


def _around(share: float, spread: float = 0.05) -> Range:
  return (share * (1 - spread), share * (1 + spread))


@dataclasses.dataclass(frozen=True)
class BodyRange:
  """A population: uniform ranges of the stature (m) and of each bone as a share of it.

  `torso` is hip to thorax along the spine, `torso_split` the share of it below the spine joint; `hip` and `shoulder` are
  half widths (root to hip, thorax to shoulder). `neck_tilt_deg` leans the thorax-neck bone forward: where a data set puts
  its neck joint is a convention, from base of the skull to nose.
  """

  stature_m: Range = (1.60, 1.90)
  thigh: Range = _around(_ADULT["thigh"])
  shin: Range = _around(_ADULT["shin"])
  torso: Range = _around(_ADULT["torso"])
  neck: Range = _around(_ADULT["neck"])
  head: Range = _around(_ADULT["head"])
  hip: Range = _around(_ADULT["hip"])
  shoulder: Range = _around(_ADULT["shoulder"])
  upper_arm: Range = _around(_ADULT["upper_arm"])
  forearm: Range = _around(_ADULT["forearm"])
  torso_split: Range = (0.45, 0.50)
  neck_tilt_deg: Range = (20.0, 32.0)


@dataclasses.dataclass(frozen=True)
class Body:
  """One subject: rest-pose `offsets` [17 3] from each joint's parent (root: zeros) and the ankles' height over the sole, m."""

  offsets: np.ndarray
  ankle_height: float


def draw_body(rng: np.random.Generator, bodies: BodyRange) -> Body:
  """A subject of the population `bodies`."""
  draw = {field.name: rng.uniform(*getattr(bodies, field.name)) for field in dataclasses.fields(bodies)}
  stature, tilt = draw["stature_m"], np.deg2rad(draw["neck_tilt_deg"])
  size = {name: share * stature for name, share in draw.items() if name in _ADULT}
  along = lambda length, *direction: length * np.array(direction) / np.linalg.norm(direction)
  offsets = np.zeros((17, 3))
  for side, hip, shoulder in ((1, 4, 11), (-1, 1, 14)):
    offsets[hip] = along(size["hip"], side, 0, 0)
    offsets[hip + 1] = along(size["thigh"], 0, -1, 0)
    offsets[hip + 2] = along(size["shin"], 0, -1, 0)
    offsets[shoulder] = along(size["shoulder"], side, -0.2, -0.05)
    offsets[shoulder + 1] = along(size["upper_arm"], 0, -1, 0)
    offsets[shoulder + 2] = along(size["forearm"], 0, -1, 0)
  offsets[7] = along(size["torso"] * draw["torso_split"], 0, 1, -0.06)
  offsets[8] = along(size["torso"] * (1 - draw["torso_split"]), 0, 1, -0.02)
  offsets[9] = along(size["neck"], 0, np.cos(tilt), np.sin(tilt))
  offsets[10] = along(size["head"], 0, 1, -0.15)
  return Body(offsets, ankle_height=0.042 * stature)


def length_ranges(bodies: BodyRange) -> np.ndarray:
  """Shortest and longest possible bone [16 2], m, in the order of `posynda_jax.geometry.skeleton.bone_lengths`."""
  columns = []
  for end in (0, 1):
    share = {field.name: getattr(bodies, field.name)[end] for field in dataclasses.fields(bodies)}
    upper = 1 - bodies.torso_split[1 - end]  # the upper spine is longest where the split is lowest
    spine = [share["torso"] * share["torso_split"], share["torso"] * upper, share["neck"], share["head"]]
    leg, arm = ([share[name] for name in names] for names in (("hip", "thigh", "shin"), ("shoulder", "upper_arm", "forearm")))
    columns.append(np.array(leg * 2 + spine + arm * 2) * share["stature_m"])
  return np.stack(columns, -1)
