"""Joints by their names, which files write in any order and spelling, and with other columns between them."""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from posynda_jax.geometry import layouts, skeleton
from posynda_jax.interop.keypoints import fields

SCORES = (  # words for the score of a joint, the first of which counts
    "keypoint_scores", "keypoints_scores", "keypoint_score", "scores", "score", "confidence", "confidences", "conf",
    "visibility", "visible", "inFrameLikelihood", "likelihood", "vis", "probability", "prob", "presence", "accuracy",
    "accu", "certainty", "s", "c", "v", "p",
)
_SCORES = tuple(word.replace("_", "").lower() for word in SCORES)  # as patterns of `fields`
LEAST = 6  # known names from which names decide
_SIDES = {"l": "left", "r": "right", "left": "left", "right": "right"}
_LIMBS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_SAME = {  # other words for a joint
    "pelvis": "hip", "root": "hip", "hips": "hip", "midhip": "hip", "hipcenter": "hip", "chest": "thorax",
    "torso": "spine", "belly": "spine", "headtop": "head", "tophead": "head", "hand": "wrist", "foot": "ankle",
    "sho": "shoulder", "elb": "elbow", "wri": "wrist", "kne": "knee", "ank": "ankle",
}
_COCO = ("nose", *(f"{side}_{limb}" for limb in _LIMBS for side in ("left", "right")))
_FACE = ("eye_inner", "eye", "eye_outer")  # of MediaPipe's 33, as its mouth, hands and feet


def score_words(names: Iterable[str], most: int | None = None) -> list[str]:
  """Those of an entry's fields that have one of the first `most` words of SCORES, in their order. V is no v."""
  return [name for name in fields.keys(names, *_SCORES[:most]) if name != name.upper() or len(name) > 1]


def scores_of(entry: dict, most: int | None = None) -> Iterator[Any]:
  """The values of these fields."""
  return (entry[name] for name in score_words(entry, most))


def _named(layout: str, more: dict[int, str]) -> tuple[str, ...]:
  """Names of a layout's joints: those that COCO has too, and `more`."""
  names = {place: name for name, place in zip(_COCO, layouts.COCO[layout], strict=True)} | more
  return tuple(names.get(place, "") for place in range(layouts.LAYOUTS[layout].num_joints))


# Names by layout, and those without which it is not this layout.
_NAMES = {
    "coco17": (_COCO, ()),
    "coco18": (_named("coco18", {1: "neck"}), ("neck",)),
    "body25": (_named("body25", {1: "neck", 8: "hip"}), ("neck", "hip")),
    "halpe26": (_named("halpe26", {17: "head", 18: "neck", 19: "hip"}), ("head", "neck", "hip")),
    "mediapipe33": (_named("mediapipe33", {
        **{1 + 3 * right + i: f"{('left', 'right')[right]}_{part.replace('_', '')}"
           for right in (0, 1) for i, part in enumerate(_FACE)},
        **{first + right: f"{('left', 'right')[right]}_{part}" for right in (0, 1) for first, part in (
            (9, "mouth"), (17, "pinky"), (19, "index"), (21, "thumb"), (29, "heel"), (31, "footindex"))},
    }), ("left_eyeinner",)),
    "h36m17": (skeleton.JOINTS, ("hip", "spine", "thorax", "neck", "head")),
}


@dataclasses.dataclass(frozen=True)
class Places:
  """Where the joints of a layout stand among a file's names. `layout` None: names are numbers, which order them.

  `of` [j]: place of each joint, None where the file does not name it. `unknown`: names of no joint of the layout.
  """

  layout: str | None
  of: tuple[int | None, ...]
  unknown: tuple[str, ...] = ()


def find(names: Sequence[str], layout: str | None = None, is_sure: bool = False) -> Places | None:
  """The places of joints among `names`; None where fewer than LEAST are known, or are those of another than the given
  `layout`. Of several layouts, the one with most of the names counts. Where all known names stand in the layout's
  order, the unknown ones are other spellings. Numbers, as in kp_0, kp_1, order themselves. Raises ValueError for a
  joint that is named twice, and where the names are exactly those of another layout than the given one.

  `is_sure` says that other frames name all joints by which `layout` is known: this one may lack some, and one known
  name is enough.
  """
  exact = [spell(name, synonyms=False) for name in names]
  plain = [key if (key := spell(name)) == own or key not in exact else own for name, own in zip(names, exact)]
  own = set(plain) - {""}
  counts = {
      one: len(own & set(known)) for one, (known, needed) in _NAMES.items()
      if own.issuperset(needed) or one == layout}
  best = max(counts, key=lambda one: (counts[one], one == layout))
  known = _NAMES[best][0]
  if layout not in (None, best) and len(names) == len(known) and own >= set(known) - {""}:
    raise ValueError(f"the joints have the names of {best}, but {layout} was given: leave --layout out. If it was not "
                     f"given, earlier frames name fewer joints: give --layout={best}")
  if counts[best] >= (1 if is_sure else LEAST) and layout in (None, best):
    if twice := {name for name in plain if name in known and plain.count(name) > 1}:
      raise ValueError(f"two joints are named {' and '.join(sorted(twice))}: keep one of each")
    places = {name: i for i, name in enumerate(plain) if name}
    of = tuple(places.get(name) for name in known)
    if len(names) == len(of) and all(place in (None, joint) for joint, place in enumerate(of)):
      return Places(best, tuple(range(len(names))))
    return Places(best, of, tuple(name for name, key in zip(names, plain) if key not in known))
  bare = _without_common(names)
  if bare != list(names) and (found := find(bare, layout, is_sure)) and found.layout:
    return found
  stems = {name.rstrip("0123456789") for name in names}
  tails = [name.removeprefix(*stems) for name in names] if len(stems) == 1 else names
  numbers = {int(tail): place for place, tail in enumerate(tails) if re.fullmatch("[0-9]{1,3}", tail)}
  if len(numbers) < LEAST or "" in names:
    return None
  order = range(min(1, *numbers), max(numbers) + 1)  # a number that lacks is a joint that lacks
  if len(order) not in layouts.BY_COUNT and len(numbers) in layouts.BY_COUNT:
    order = sorted(numbers)
  of = tuple(map(numbers.get, order))
  return Places(None, of, tuple(name for place, name in enumerate(names) if place not in of))


def _without_common(names: Sequence[str]) -> list[str]:
  """Names without a word that all begin or end with, as in pose_left_hip and left_hip_2d."""
  words = [re.split(r"[\W_]+", name) for name in names]
  for end in (0, -1):
    if len({one[end].lower() for one in words}) == 1 and all(len(one) > 1 for one in words):
      words = [one[1:] if end == 0 else one[:-1] for one in words]
  return ["_".join(one) for one in words]


def spell(name: str, synonyms: bool = True) -> str:
  """A name in one spelling: "LShoulder", "shoulder_l" and "Left Shoulder" are "left_shoulder"; "mid_hip" is "hip" by
  synonyms.
  """
  words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[LR])(?=[A-Z][a-z])", " ", name).lower())
  sides = [_SIDES[word] for word in words if word in _SIDES]
  rest = "".join(word for word in words if word not in _SIDES)
  if not sides and (match := re.fullmatch(r"(left|right|l|r)(.+)", rest)) and (
      match[2].startswith(_LIMBS) or match[2] in _SAME):
    sides, rest = [_SIDES[match[1]]], match[2]
  rest = _SAME.get(rest, rest) if synonyms else rest
  return f"{sides[0]}_{rest}" if sides else rest
