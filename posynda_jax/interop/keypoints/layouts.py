"""Joint layouts of detectors, and the rules that make the Human3.6M-17 joints of them (DATASETS.md 4.1).

A rule is a table: each Human3.6M joint is the mean of some of the detector's joints, and its score the least of theirs. "simple"
is each layout's own table; "gast" (MHFormer, MotionAGFormer) moves spine, thorax, neck and head of COCO joints besides.
"""

import dataclasses
import re

import numpy as np

from posynda_jax.geometry import skeleton

RULES = ("simple", "gast")

# COCO-17: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right. Where a layout has each of them:
COCO = {
    "coco17": tuple(range(17)),
    "coco18": (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10),  # OpenPose's COCO model: neck at 1
    "body25": (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11),  # OpenPose: neck at 1, mid-hip at 8
    "halpe26": tuple(range(17)),  # then 17 head, 18 neck, 19 hip, feet
    "halpe136": tuple(range(17)),  # halpe26, then face and hands
    "wholebody133": tuple(range(17)),  # COCO-17, then feet, face and hands
    "mediapipe33": (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28),
}
_SIZES = {name: int(re.search(r"\d+$", name)[0]) for name in (*COCO, *skeleton.ORDERS)}
# The simple rule on COCO-17, and what replaces it where a detector sees a joint itself.
_SIMPLE = (
    (11, 12), (12,), (14,), (16,), (11,), (13,), (15,), (5, 6, 11, 12), (5, 6), (0,), (1, 2), (5,), (7,), (9,), (6,), (8,), (10,)
)  # fmt: skip
_HALPE = {0: (19,), 7: (18, 19), 8: (18,), 10: (17,)}
_OWN = {"halpe26": _HALPE, "halpe136": _HALPE, "body25": {0: (8,), 7: (1, 8), 8: (1,)}}


@dataclasses.dataclass(frozen=True)
class Layout:
  """`num_joints` of a detector, of which the first `used` matter; `means`: which of them make each Human3.6M joint."""

  name: str
  num_joints: int
  used: int
  means: tuple[tuple[int, ...], ...]


def _layout(name: str) -> Layout:
  if name in COCO:
    means = [tuple(COCO[name][i] for i in row) for row in _SIMPLE]
    for joint, row in _OWN.get(name, {}).items():
      means[joint] = row
    used = max(max(COCO[name]), *(i for row in means for i in row)) + 1
    return Layout(name, _SIZES[name], used, tuple(means))
  return Layout(name, _SIZES[name], _SIZES[name], tuple((i,) for i in skeleton.ORDERS[name]))


LAYOUTS = {name: _layout(name) for name in _SIZES}
BY_COUNT = {LAYOUTS[name].num_joints: name for name in COCO}


def rule_name(layout: str, rule: str) -> str:
  """What to print beside a result: `simple`, `gast`, the layout whose own joints were used, or that only the order changed."""
  if layout not in COCO:
    return f"{layout} order"
  return layout if rule == "simple" and layout in _OWN else rule


def to_h36m(points: np.ndarray, scores: np.ndarray, layout: str, rule: str = "simple") -> tuple[np.ndarray, np.ndarray]:
  """Points [T 17 2] and scores [T 17] in Human3.6M-17 order of a detector's points [T j 2] and scores [T j].

  A joint made of several is NaN where one of them is. Raises ValueError for "gast" on a layout without COCO joints.
  """
  if rule == "gast" and layout not in COCO:
    raise ValueError(f"joint rule gast needs COCO joints, layout {layout} has others: leave --joint_rule out")
  means = LAYOUTS[layout].means if rule == "simple" else [tuple(COCO[layout][i] for i in row) for row in _GAST_INPUTS]
  made = np.stack([points[:, row].mean(1) for row in map(list, means)], 1)
  least = np.stack([scores[:, row].min(1) for row in map(list, means)], 1)
  return (made if rule == "simple" else _gast(points[:, list(COCO[layout])])), least


# The COCO joints that GAST's formulas use for each Human3.6M joint.
_GAST_INPUTS = tuple(
    {7: (0, 5, 6, 11, 12), 8: (0, 1, 2, 5, 6), 9: (0, 5, 6), 10: (0, 1, 2, 3, 4)}.get(i, row) for i, row in enumerate(_SIMPLE)
)


def _gast(coco: np.ndarray) -> np.ndarray:
  """GAST-Net's `coco_h36m`, without its collapse of low-score legs: their low confidence tells that already."""
  out = np.stack([coco[:, list(row)].mean(1) for row in _SIMPLE], 1)
  nose, shoulders, eyes_y = coco[:, 0], out[:, 8].copy(), out[:, 10, 1].copy()
  out[:, 8] += (nose - shoulders) / 3
  out[:, 7, 0] += 2 * (out[:, 7, 0] - (out[:, 0, 0] + out[:, 8, 0]) / 2)
  out[:, 8, 1] -= (eyes_y - nose[:, 1]) * 2 / 3
  out[:, 9] -= (nose - shoulders) / 4
  out[:, 10, 0] = coco[:, 1:5, 0].mean(1)
  out[:, 10, 1] = 2 * eyes_y - nose[:, 1]
  return out
