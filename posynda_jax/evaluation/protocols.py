"""Evaluation protocols as data: split, joints, alignment and average of each published kind of number.

`frame_scores` scores frames, and `tally.Tally` sums the scores by label. A protocol names some of these averages:

    mean_of_actions, mean_of_sequences   mean over the groups of the first grouping, each with weight 1
    pooled                               mean over all valid frames (the row "All" of the official 3DHP scripts)

Joints are Human3.6M-17 indices. `skeleton.ORDERS` converts joint sets that a dataset defines in its own order.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Array, Float

from posynda_jax.datasets.human36m import tables as h36m
from posynda_jax.datasets.mpi_inf_3dhp import tables as dhp
from posynda_jax.geometry import metrics, skeleton

ALL = tuple(range(17))


def in_h36m(order: str, joints: Sequence[int]) -> tuple[int, ...]:
  """Human3.6M-17 indices of joints given as indices of another order."""
  return tuple(skeleton.ORDERS[order].index(joint) for joint in joints)


def without(*names: str) -> tuple[int, ...]:
  """Indices of all joints except the named."""
  return tuple(j for j in ALL if skeleton.JOINTS[j] not in names)


@dataclasses.dataclass(frozen=True)
class Score:
  """One column of a result: a kind of error over `joints`. Lengths are in mm, `pck` and `auc` in percent."""

  name: str
  kind: Literal["mpjpe", "p_mpjpe", "pck", "auc"]
  joints: tuple[int, ...] = ALL

  def __str__(self) -> str:
    """Joints and kind in words."""
    left_out = ", ".join(f"{j} {skeleton.JOINTS[j]}" for j in ALL if j not in self.joints)
    return f"{len(self.joints)} joints{f' (without {left_out})' if left_out else ''}, {_MEANING[self.kind]}"


_MEANING = {
    "mpjpe": "mean distance",
    "p_mpjpe": "mean distance after the best similarity of these joints per frame, no reflection",
    "pck": f"share nearer than {metrics.PCK_MM:g} mm (strict)",
    "auc": "mean PCK of the {} thresholds {:g} to {:g} mm (strict)".format(
        len(metrics.AUC_MM), metrics.AUC_MM[0], metrics.AUC_MM[-1]),
}


@dataclasses.dataclass(frozen=True)
class Grouping:
  """Groups of frames by a label. `members` maps labels to group names; without it each label is a group."""

  name: str
  label: str
  members: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Protocol:
  """A way to score.

  `dataset`: the default dataset/config; its config is the 2D source, and another may be chosen. `groupings`: averages
  are over the first, the others are only shown. `averages`: the first is the headline. `centre`: both poses are
  relative to the mean of these joints. `fields`: further per-frame fields that records must have. `paper`: what the
  paper (MM '23) prints for it, which was not measured here.
  """

  name: str
  dataset: str
  split: str
  scores: tuple[Score, ...]
  groupings: tuple[Grouping, ...]
  averages: tuple[str, ...]
  centre: tuple[int, ...] = (skeleton.ROOT,)
  fields: tuple[str, ...] = ()
  paper: str = ""
  note: str = ""

  def describe(self) -> dict:
    """The facts that must stand beside every number of this protocol."""
    return {
        "protocol": self.name, "scores": {score.name: str(score) for score in self.scores},
        "centre": " and ".join(skeleton.JOINTS[j] for j in self.centre), "headline": self.averages[0],
        "note": self.note,
    }


def frame_scores(
    protocol: Protocol, pred: Float[Array, "*b 17 3"], target: Float[Array, "*b 17 3"], mm: float = 1000.0
) -> dict[str, Float[Array, "*b"]]:
  """Each score of every frame, for poses in a unit of `mm` millimetres with any root. A pure function."""
  pred, target = (poses - poses[..., np.array(protocol.centre), :].mean(-2, keepdims=True) for poses in (pred, target))
  errors = mm * metrics.joint_errors(pred, target)  # scaled last, so that an exact joint has an error of exactly 0
  measure = {
      "mpjpe": lambda joints: errors[..., joints].mean(-1),
      "p_mpjpe": lambda joints: mm * metrics.p_mpjpe(pred[..., joints, :], target[..., joints, :]),
      "pck": lambda joints: metrics.pck(errors[..., joints], metrics.PCK_MM),
      "auc": lambda joints: metrics.auc(errors[..., joints]),
  }
  return {score.name: measure[score.kind](np.array(score.joints)) for score in protocol.scores}


def _errors_of(joints: tuple[int, ...]) -> tuple[Score, Score]:
  return Score("mpjpe_mm", "mpjpe", joints), Score("p_mpjpe_mm", "p_mpjpe", joints)


_MPJPE, _P_MPJPE = _errors_of(ALL)
_H36M = functools.partial(
    Protocol, dataset="human36m/gt", averages=("mean_of_actions", "pooled"),
    groupings=(Grouping("action", "action", {name: name for name in h36m.ACTIONS}),),
)
_FULL = {
    "split": "S9+S11", "paper": "Table 1, all source subjects: MPJPE 25.6 (Wang et al. [59]), none of its own",
    "note": "Root included. The paper's caption names S5, S6, S7, S8 for these rows too",
}
_S1 = {
    "scores": (_MPJPE, _P_MPJPE),
    "paper": "Table 1, source S1: MPJPE 48.1, P-MPJPE 33.2; before it 49.9, 34.2 (Chai et al. [4])",
    "note": "The paper's caption names S5, S6, S7, S8; released code of compared methods (AdaptPose, PoseAug) scores "
            "S9, S11 for the same source, so its table may mix both",
}
_PCK_JOINTS = in_h36m("dhp17", metrics.DHP_SCORED)
_SCENES = ("studio, green screen", "studio, plain", "outdoors")  # two sequences each
_3DPW = functools.partial(
    Protocol, dataset="threedpw/regressor_gt", split="test", groupings=(Grouping("sequence", "sequence"),),
    averages=("pooled",),
    paper="Table 4, across datasets: P-MPJPE 45.4, MPJPE 75.5; before it 46.5, 81.2 (Gholami et al. [15])",
)
_3DPW_JOINTS = in_h36m("spin17", (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10))  # SPIN's H36M_TO_J14
_3DPW_NOTE = "The paper does not say which joints its table scores"

PROTOCOLS = {protocol.name: protocol for protocol in (
    _H36M("h36m_p1", scores=(_MPJPE,), **_FULL),
    _H36M("h36m_p2", scores=(_P_MPJPE,), **_FULL),
    _H36M("h36m_s1_to_s5678", split="S5+S6+S7+S8", **_S1),
    _H36M("h36m_s1_to_s9s11", split="S9+S11", **_S1),
    Protocol(
        "3dhp", "mpi_inf_3dhp/vnect", "test",
        scores=(
            Score("mpjpe_17_mm", "mpjpe"), Score("mpjpe_16_mm", "mpjpe", without("hip")),
            Score("pck_percent", "pck", _PCK_JOINTS), Score("auc_percent", "auc", _PCK_JOINTS),
        ),
        groupings=(
            Grouping("sequence", "sequence", {name: name for name in dhp.TEST}),
            Grouping("scene", "sequence", {name: _SCENES[i // 2] for i, name in enumerate(dhp.TEST)}),
            Grouping("activity", "activity", {str(i): name for i, name in enumerate(dhp.ACTIVITIES)}),
        ),
        averages=("mean_of_sequences", "pooled"), fields=("activity",),
        paper="Table 2, across datasets: MPJPE 58.2, PCK 93.5, AUC 59.6 (VideoPose 60.2, 93.1, 58.4); before it 61.3, "
              "92.1, 62.5 (Chai et al. [4])",
        note="The paper states 2,929 test frames; the published scores of D3DP count 2,875",
    ),
    _3DPW("3dpw_14", scores=_errors_of(_3DPW_JOINTS), centre=in_h36m("spin17", (4, 1)),
          note=f"{_3DPW_NOTE}. VIBE also asks for more than 6 detected points"),
    _3DPW("3dpw_16", scores=_errors_of(without("neck")), note=_3DPW_NOTE),
)}
# Open motion capture has no published protocol. Some of its skeletons have no joints 9 and 10, which are then derived.
OPEN = Protocol(
    "open_mocap", "hdm05_mocap/wild_rig_gt", "test",
    scores=(
        _MPJPE, _P_MPJPE, Score("pck_percent", "pck"), Score("auc_percent", "auc"),
        Score("mpjpe_15_mm", "mpjpe", without("neck", "head")),
    ),
    groupings=(Grouping("action", "action"),), averages=("pooled", "mean_of_actions"),
)
_OF_DATASET = {"human36m": "h36m_s1_to_s5678", "mpi_inf_3dhp": "3dhp", "threedpw": "3dpw_14"}


def of_target(name: str) -> Protocol:
  """The protocol of the paper's table for a target dataset/config, or OPEN for a dataset that it does not have."""
  known = _OF_DATASET.get(name.partition("/")[0])
  return PROTOCOLS[known] if known else OPEN
