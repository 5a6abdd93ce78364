"""Joint layouts of 2D detectors, and the tables that make the Human3.6M-17 joints of them (DATASETS.md 4.1, "simple").

Each Human3.6M joint is the mean of some of the detector's joints, and its score is their least score.
"""

import dataclasses
import re

import numpy as np

from posynda_jax.geometry import skeleton

_STRAY = 0.08  # most that a joint lies from the middle of a pair around it, as a share of the box's diagonal

# COCO-17 is nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right.
# COCO[name][i] is the index, in that layout, of joint i of COCO-17.
COCO = {
    "coco17": tuple(range(17)),
    "coco18": (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),  # OpenPose's COCO model: neck at 1
    "body25": (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),  # OpenPose: neck at 1, mid-hip at 8
    "body25b": tuple(range(17)),  # OpenPose: COCO-17, then 17 upper neck, 18 top of the head, feet
    "body135": tuple(range(17)),  # body25b, then hands and face
    "halpe26": tuple(range(17)),  # then 17 head, 18 neck, 19 hip, feet
    "halpe136": tuple(range(17)),  # halpe26, then face and hands
    "wholebody133": tuple(range(17)),  # COCO-17, then feet, face and hands
    "mediapipe33": (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28),
}
# The simple rule on COCO-17, and the rows of layouts that have a joint of Human3.6M themselves.
_SIMPLE = (
    (11, 12), (12,), (14,), (16,), (11,), (13,), (15,), (5, 6, 11, 12), (5, 6), (0,), (1, 2),
    (5,), (7,), (9,), (6,), (8,), (10,),
)  # fmt: skip
_HALPE = {0: (19,), 7: (18, 19), 8: (18,), 10: (17,)}
_TOP = {10: (18,)}
_BODY25 = {0: (8,), 7: (1, 8), 8: (1,)}
_OWN = {"body25": _BODY25, "body25b": _TOP, "body135": _TOP, "halpe26": _HALPE, "halpe136": _HALPE}


@dataclasses.dataclass(frozen=True)
class Layout:
  """A detector's `num_joints`, of which the first `used` are needed. The mean of `means[i]` is Human3.6M joint i."""

  num_joints: int
  used: int
  means: tuple[tuple[int, ...], ...]


def _layout(name: str) -> Layout:
  num_joints = int(re.search(r"\d+(?=b?$)", name)[0])
  if name not in COCO:
    return Layout(num_joints, num_joints, tuple((i,) for i in skeleton.ORDERS[name]))
  simple = enumerate(tuple(COCO[name][i] for i in row) for row in _SIMPLE)
  means = tuple(_OWN.get(name, {}).get(joint, row) for joint, row in simple)
  return Layout(num_joints, max(COCO[name] + sum(means, ())) + 1, means)


LAYOUTS = {name: _layout(name) for name in (*COCO, *skeleton.ORDERS)}
BY_COUNT = {LAYOUTS[name].num_joints: name for name in COCO if name != "body25b"}  # see `told_apart`


def told_apart(points: np.ndarray, layout: str, label="keypoints") -> str:
  """`body25`, or `body25b` for points [n j 2] (NaN: lost) that are called `body25` and are not; else `layout`.

  In BODY_25 joint 8 lies between the hips and joint 1 between the shoulders. In BODY_25B the nose lies near both eyes
  and joint 17 between the shoulders. COCO-17 with a neck at its end is called `coco18` and is `coco17`. Raises
  ValueError for 18, 25 or 26 joints in another order, as those of Kinect, and for Human3.6M-17 that is called `coco17`.
  """
  if layout not in ("coco17", "coco18", "body25", "halpe26") or not len(points):
    return layout
  points = points.astype(np.float64)  # squares of damaged coordinates overflow float32
  lost = np.isnan(points)
  sizes = np.linalg.norm(np.where(lost, -np.inf, points).max(1) - np.where(lost, np.inf, points).min(1), axis=-1)
  size = np.median(sizes[np.isfinite(sizes)]) if np.isfinite(sizes).any() else 0
  if size == 0:  # one point, or none
    return layout

  def stray(*triples):  # share of the size that each joint is from the middle of its pair; inf where none is seen
    away = [np.linalg.norm(points[:, i] - points[:, [j, k]].mean(1), axis=-1) / size for i, j, k in triples]
    return max((found[np.isfinite(found)].mean() for found in away if np.isfinite(found).any()), default=np.inf)

  if layout == "coco17":
    h36m = stray((0, 1, 4), (7, 0, 8), (8, 11, 14), (9, 8, 10))  # hip, spine, thorax and neck; else nose, eyes, ears
    if h36m < min(_STRAY, stray((0, 1, 2), (0, 3, 4)) / 2):
      order = "17 joints that lie as Human3.6M's and not as COCO's"
      hips, shoulders = (points[:, i, 0] - points[:, j, 0] for i, j in ((1, 4), (14, 11)))
      if np.nanmean(np.sign(hips * shoulders)) < 0:
        what = "but the left leg comes first: exchange the legs, or convert them to coco17"
        raise ValueError(f"{label} has {order}, {what}")
      raise ValueError(f"{label} has {order}: give --layout=h36m17, or --layout=coco17 if they are COCO's")
    return layout
  if layout in ("coco18", "halpe26"):
    away = [stray((1, 2, 5))] if layout == "coco18" else [stray((18, 5, 6)), stray((19, 11, 12))]  # neck, and hip
    if layout == "coco18" and stray((17, 5, 6), (0, 1, 2)) < min(_STRAY, away[0] / 2):
      return "coco17"
    if 2 * _STRAY < min(away) and max(away) < np.inf:
      order = f"{LAYOUTS[layout].num_joints} joints that lie otherwise than those of {layout}"
      raise ValueError(f"{label} has {order}: name their order with --layout, or convert them to coco17")
    return layout
  body25, body25b = stray((8, 9, 12), (1, 2, 5)), stray((0, 1, 2), (17, 5, 6))
  if body25 > _STRAY and body25b > 2 * _STRAY:  # the upper neck of BODY_25B is above the shoulders
    order = "25 joints that lie otherwise than those of OpenPose (Kinect's or ViTPose's?)"
    raise ValueError(f"{label} has {order}: name their order with --layout, or convert them to coco17")
  return "body25b" if body25b < body25 else layout


def rule_name(layout: str) -> str:
  """The rule to print beside a result: `simple`, the layout if its own joints are used, or `LAYOUT order`."""
  return f"{layout} order" if layout not in COCO else layout if layout in _OWN else "simple"


def convert(points: np.ndarray, scores: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
  """Points [T 17 2] and scores [T 17] in Human3.6M-17 order, from a detector's points [T j 2] and scores [T j].

  A mean is NaN if one of its joints is.
  """
  means = [list(row) for row in LAYOUTS[layout].means]
  points = np.stack([points[:, row].mean(1) for row in means], 1)
  return points, np.stack([scores[:, row].min(1) for row in means], 1)
