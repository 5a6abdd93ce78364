"""Evaluation protocols as data: which split, joints, alignment and average stand behind a published kind of number.

`frame_scores` measures frames; `tally.Tally` sums them by label and takes the averages in use, of which a protocol
names its own:

    mean_of_actions, mean_of_sequences   plain mean of the values of the first grouping, however many frames each has
    frame_weighted                       the same values weighted by their valid frames (P-STMO); `pooled` but for rounding
    pooled                               all valid frames together (the "All" row of the official 3DHP scripts)

Joints are Human3.6M-17 indices; sets that a dataset defines in its own order come through `skeleton.ORDERS`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Array, Float

from posynda_jax.datasets.human36m import tables as h36m
from posynda_jax.datasets.mpi_inf_3dhp import tables as dhp
from posynda_jax.evaluation import paper_tables
from posynda_jax.geometry import metrics, skeleton

ALL = tuple(range(17))


def in_h36m(order: str, joints: Sequence[int]) -> tuple[int, ...]:
  """Human3.6M-17 indices of the joints that another order numbers so."""
  return tuple(skeleton.ORDERS[order].index(joint) for joint in joints)


def without(*names: str) -> tuple[int, ...]:
  """All joints but the named."""
  return tuple(j for j in ALL if skeleton.JOINTS[j] not in names)


@dataclasses.dataclass(frozen=True)
class Score:
  """One column of a result: a kind of error over `joints`. Lengths in mm, `pck` and `auc` in percent."""

  name: str
  kind: Literal["mpjpe", "p_mpjpe", "pck", "auc"]
  joints: tuple[int, ...] = ALL

  def __str__(self) -> str:
    """What is measured, in words."""
    left_out = [f"{j} {skeleton.JOINTS[j]}" for j in ALL if j not in self.joints]
    return f"{len(self.joints)} joints" + (f" (without {', '.join(left_out)})" if left_out else "") + _MEANING[self.kind]


_MEANING = {
    "mpjpe": ", mean distance",
    "p_mpjpe": ", mean distance after the best similarity of these joints per frame, no reflection",
    "pck": f", share nearer than {metrics.PCK_MM:g} mm (strict)",
    "auc": f", mean PCK of the {len(metrics.AUC_MM)} thresholds {metrics.AUC_MM[0]:g} to {metrics.AUC_MM[-1]:g} mm (strict)",
}


@dataclasses.dataclass(frozen=True)
class Grouping:
  """Values by a label of the frames. `members` maps label values to group names; without it each value is its own
  group.
  """

  name: str
  label: str
  members: Mapping[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class Protocol:
  """A way to score. The first of `averages` is the headline; `fields` are per-frame fields that records must have
  besides.

  The first of `groupings` is the one that is averaged over; the others are only shown.
  """

  name: str
  dataset: str  # dataset/config by default; the config is the 2D source and may be another
  split: str
  scores: tuple[Score, ...]
  groupings: tuple[Grouping, ...]
  averages: tuple[str, ...]
  centre: tuple[int, ...] = (skeleton.ROOT,)  # both poses are taken relative to the mean of these joints
  fields: tuple[str, ...] = ()
  paper: paper_tables.PaperTable | None = None
  note: str = ""

  def describe(self) -> dict:
    """What must stand beside every number of this protocol."""
    return {
        "protocol": self.name,
        "scores": {score.name: str(score) for score in self.scores},
        "centre": " and ".join(skeleton.JOINTS[j] for j in self.centre),
        "headline": self.averages[0],
        "note": self.note,
    }


def frame_scores(
    protocol: Protocol, pred: Float[Array, "*b 17 3"], target: Float[Array, "*b 17 3"], mm: float = 1000.0
) -> dict[str, Float[Array, "*b"]]:
  """Each score of every frame, for poses in a unit of `mm` millimetres. Any root; a pure function to be compiled."""
  pred, target = (poses - poses[..., np.array(protocol.centre), :].mean(-2, keepdims=True) for poses in (pred, target))
  errors = mm * metrics.joint_errors(pred, target)  # scaled last: a perfect joint stays at exactly 0
  measure = {
      "mpjpe": lambda joints: errors[..., joints].mean(-1),
      "p_mpjpe": lambda joints: mm * metrics.p_mpjpe(pred[..., joints, :], target[..., joints, :]),
      "pck": lambda joints: metrics.pck(errors[..., joints], metrics.PCK_MM),
      "auc": lambda joints: metrics.auc(errors[..., joints]),
  }
  return {score.name: measure[score.kind](np.array(score.joints)) for score in protocol.scores}


def paper_figures(protocol: Protocol) -> str:
  """The paper's own figures of this protocol as text, "paper" on every line; says so where it has none."""
  return "\n".join(protocol.paper.lines()) if protocol.paper else f"paper  prints no figures of {protocol.name}"


_SCENES = ("studio, green screen", "studio, plain", "outdoors")  # two sequences each
_MPJPE, _P_MPJPE = Score("mpjpe_mm", "mpjpe"), Score("p_mpjpe_mm", "p_mpjpe")
_BY_ACTION = (Grouping("action", "action", {name: name for name in h36m.ACTIONS}),)
_OF_ACTIONS = ("mean_of_actions", "pooled")
_FULL_NOTE = "Root included. The paper's caption names S5, S6, S7, S8 for these rows too"
_S1_NOTE = (
    "The paper's caption names S5, S6, S7, S8; released code of compared methods (AdaptPose, PoseAug) scores S9, S11 for "
    "the same source, so its table may mix both"
)
_PCK_JOINTS = in_h36m("dhp17", metrics.DHP_SCORED)
_3DPW_JOINTS = in_h36m("spin17", (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10))  # SPIN's H36M_TO_J14
_3DPW_NOTE = "The paper does not say which joints its table scores"
_3DPW = {
    "dataset": "threedpw/regressor_gt", "split": "test", "groupings": (Grouping("sequence", "sequence"),),
    "averages": ("pooled",), "paper": paper_tables.TABLE_4,
}

PROTOCOLS = {protocol.name: protocol for protocol in (
    Protocol(
        "h36m_p1", "human36m/gt", "S9+S11", (_MPJPE,), _BY_ACTION, _OF_ACTIONS, paper=paper_tables.TABLE_1.only("Full"),
        note=_FULL_NOTE,
    ),
    Protocol(
        "h36m_p2", "human36m/gt", "S9+S11", (_P_MPJPE,), _BY_ACTION, _OF_ACTIONS, paper=paper_tables.TABLE_1.only("Full"),
        note=_FULL_NOTE,
    ),
    Protocol(
        "h36m_s1_to_s5678", "human36m/gt", "S5+S6+S7+S8", (_MPJPE, _P_MPJPE), _BY_ACTION, _OF_ACTIONS,
        paper=paper_tables.TABLE_1.only("S1"), note=_S1_NOTE,
    ),
    Protocol(
        "h36m_s1_to_s9s11", "human36m/gt", "S9+S11", (_MPJPE, _P_MPJPE), _BY_ACTION, _OF_ACTIONS,
        paper=paper_tables.TABLE_1.only("S1"), note=_S1_NOTE,
    ),
    Protocol(
        "3dhp", "mpi_inf_3dhp/vnect", "test",
        (
            Score("mpjpe_17_mm", "mpjpe"), Score("mpjpe_16_mm", "mpjpe", without("hip")),
            Score("pck_percent", "pck", _PCK_JOINTS), Score("auc_percent", "auc", _PCK_JOINTS),
        ),
        (
            Grouping("sequence", "sequence", {name: name for name in dhp.TEST}),
            Grouping("scene", "sequence", {name: _SCENES[i // 2] for i, name in enumerate(dhp.TEST)}),
            Grouping("activity", "activity", {str(i): name for i, name in enumerate(dhp.ACTIVITIES)}),
        ),
        ("mean_of_sequences", "frame_weighted", "pooled"), fields=("activity",), paper=paper_tables.TABLE_2,
        note="The paper states 2,929 test frames; the published scores of D3DP count 2,875",
    ),
    Protocol("3dpw_14", scores=tuple(dataclasses.replace(s, joints=_3DPW_JOINTS) for s in (_MPJPE, _P_MPJPE)),
             centre=in_h36m("spin17", (4, 1)), note=f"{_3DPW_NOTE}. VIBE also asks for more than 6 detected points", **_3DPW),
    Protocol("3dpw_16", scores=tuple(dataclasses.replace(s, joints=without("neck")) for s in (_MPJPE, _P_MPJPE)),
             note=_3DPW_NOTE, **_3DPW),
)}
# Motion capture that anybody can have, which no published protocol covers; joints 9 and 10 are made up in some of its rigs.
OPEN = Protocol(
    "open_mocap", "hdm05_mocap/wild_rig_gt", "test",
    (
        _MPJPE, _P_MPJPE, Score("pck_percent", "pck"), Score("auc_percent", "auc"),
        Score("mpjpe_15_mm", "mpjpe", without("neck", "head")),
    ),
    (Grouping("action", "action"),), ("pooled", "mean_of_actions"),
)
OF_DATASET = {"human36m": "h36m_s1_to_s5678", "mpi_inf_3dhp": "3dhp", "threedpw": "3dpw_14"}


def of_target(name: str) -> Protocol:
  """The protocol of the paper's table for a target dataset/config; OPEN for a dataset that it does not have."""
  known = OF_DATASET.get(name.partition("/")[0])
  return PROTOCOLS[known] if known else OPEN
