"""Joints are found by their names in any order and spelling."""

import pytest

from posynda_jax.geometry import layouts, skeleton
from posynda_jax.interop.keypoints import joint_names

COCO = joint_names._COCO


@pytest.mark.parametrize("names, layout", [
    (COCO, "coco17"), ((*COCO, "Neck"), "coco18"), ((*COCO, "neck", "MidHip", "LBigToe"), "body25"),
    ((*COCO, "head_top", "neck", "pelvis"), "halpe26"), (skeleton.JOINTS, "h36m17"),
    ([name.title().replace("_", "") for name in COCO], "coco17"), ([name.upper() for name in COCO], "coco17"),
    ([f"{name.removeprefix('left_')} L" if name.startswith("left_") else name for name in COCO], "coco17"),
    ([name.replace("left_", "l").replace("right_", "r") for name in COCO], "coco17"),
    ([name.replace("elbow", "elb").replace("ankle", "ank") for name in COCO], "coco17"),
])
def test_every_spelling_and_order_gives_the_layout_and_its_places(names, layout):
  found = joint_names.find(names[::-1])
  assert found.layout == layout and len(found.of) == layouts.LAYOUTS[layout].num_joints
  of_coco = [found.of[place] for place in layouts.COCO.get(layout, range(17))]
  assert of_coco == [len(names) - 1 - place for place in range(17)]


def test_numbers_order_themselves_and_an_exact_name_goes_before_a_synonym():
  assert joint_names.find(["0", "1", "5", "2", "4", "6"]) == joint_names.Places(None, (0, 1, 3, None, 4, 2, 5))
  assert joint_names.find([*COCO, "left_hand", "bbox"]).unknown == ("left_hand", "bbox")
  assert joint_names.find(["a", "b", *COCO[:3]]) is None
  with pytest.raises(ValueError, match="two joints are named left_wrist"):
    joint_names.find([*COCO, "LWrist"])
