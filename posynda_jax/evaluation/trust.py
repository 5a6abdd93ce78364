"""Which frames and joints of a lifted video can be believed, judged by its own 2D: no ground truth is needed.

    2D, intrinsics, resolution, poses --checks--> a reason for each stretch of frames --> Trust

A check finds what cannot be right. What passes all checks may still be wrong in depth, which 2D does not show.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from posynda_jax.data import clips
from posynda_jax.geometry import skeleton, virtual_camera

REPROJECTION = 0.03  # of the diagonal of the person's box; right results have 0.4 to 2.2% of it
WINDOW_S = 0.5  # over which the reprojection is a median
FOCAL = (0.3, 12.0)  # plausible focal lengths, in longest sides of the image
CENTRE = 0.2  # plausible distance of the principal point from the image's middle, in widths and heights
FEW = 0.65  # share of the joints that must be seen
DEPTH_M = (0.7, 60.0)  # plausible distances of a person
OUTSIDE = 0.05  # share of the seen joints that may lie outside the image
LYING = 0.9  # share of frames with a trunk nearer to the horizontal on one side: a video that lies on its side
JUMP, JERK = 0.15, 0.04  # of the box's diagonal, a frame of 1/30 s: mean motion of the joints, and its change
UNSURE_M = 0.2  # how far off a joint, or the mean joint of a frame, may be
SUDDEN = 4.0  # times the usual motion of the frames around, of a jump


@dataclasses.dataclass(frozen=True)
class Trust:
  """`frames` [T] and `joints` [T 17] that can be believed, and `reasons`: (first frame, last frame, why not)."""

  frames: np.ndarray
  joints: np.ndarray
  reasons: tuple[tuple[int, int, str], ...]

  @property
  def summary(self) -> str:
    """One line: the share of trusted frames, and each reason with its frames."""
    text = f"trusted: {100 * self.frames.mean():.0f}% of {len(self.frames):,} frames"
    shown = [f"{why} (frames {first:,} to {last:,})" for first, last, why in self.reasons[:4]]
    more = f" and {len(self.reasons) - 4} more" if len(self.reasons) > 4 else ""
    return text + ("; not trusted: " + "; ".join(shown) + more if shown else "")


def judge(
    record: dict, root: np.ndarray, reprojection_px: np.ndarray, frame: np.ndarray, sigma_m: np.ndarray | None = None
) -> Trust:
  """The trust of a lifted record (`datasets.record`, without poses).

  `root` [T 3] (m, camera frame), `reprojection_px` [T] (NaN: not detected), `frame` [T], the frames' numbers, and
  `sigma_m` [T 17], how far off each joint may be (m; None or NaN: not known), are of its lifting.
  """
  sigma_m = np.zeros((len(frame), 17)) if sigma_m is None else np.nan_to_num(sigma_m)
  seen = record["confidence"] >= virtual_camera.SEEN
  detected = record["valid"].astype(bool) & seen.any(-1)
  video = _Video(record["keypoints_px"], seen, detected, record, root, reprojection_px, sigma_m)
  trusted, reasons = np.ones(len(frame), bool), []
  for check in CHECKS:
    wrong, why = check(video)
    trusted &= ~wrong
    for part in clips.stretches(wrong):
      reasons.append((int(frame[part.start]), int(frame[part.stop - 1]), why(part) if callable(why) else why))
  return Trust(trusted, seen & trusted[:, None] & (sigma_m <= UNSURE_M), tuple(reasons))


@dataclasses.dataclass(frozen=True)
class _Video:
  """`keypoints` [T 17 2] px, `seen` [T 17], `detected` [T], the record, `root` [T 3] m, `reprojection_px` [T],
  `sigma_m` [T 17]."""

  keypoints: np.ndarray
  seen: np.ndarray
  detected: np.ndarray
  record: dict
  root: np.ndarray
  reprojection_px: np.ndarray
  sigma_m: np.ndarray

  @property
  def size(self) -> np.ndarray:
    """Diagonal [T] (px) of the box around all joints."""
    return _diagonal(self.keypoints)

  @property
  def resolution(self) -> np.ndarray:
    """Width and height (px)."""
    return np.asarray(self.record["resolution"], float)

  def throughout(self, wrong: bool) -> np.ndarray:
    """All frames, or none."""
    return np.full(len(self.keypoints), bool(wrong))


Reason = str | Callable[[slice], str]


def _undetected(video: _Video) -> tuple[np.ndarray, Reason]:
  return ~video.detected, "nobody was detected"


def _few_joints(video: _Video) -> tuple[np.ndarray, Reason]:
  few = video.detected & (video.seen[:, 1:].mean(-1) < FEW)

  def why(part):
    missing = video.seen[part].mean(0) < 0.5
    return "too few joints are seen: without " + ", ".join(np.array(skeleton.JOINTS)[missing])

  return few, why


def _one_frame(video: _Video) -> tuple[np.ndarray, Reason]:
  return video.throughout(video.detected.sum() == 1), "one frame only: motion is part of what the lifter reads"


def _intrinsics(video: _Video) -> tuple[np.ndarray, Reason]:
  fx, fy, cx, cy = np.asarray(video.record["intrinsics"], float)[:4]
  size = video.resolution
  wide = np.array([fx, fy]) / size.max()
  off = np.abs(np.array([cx, cy]) / size - 0.5).max()
  wrong = wide.min() < FOCAL[0] or wide.max() > FOCAL[1] or off > CENTRE
  text = "intrinsics {:g},{:g},{:g},{:g} do not fit {:g}x{:g} px: millimetres, or of another resolution?"
  return video.throughout(wrong), text.format(fx, fy, cx, cy, *size)


def _outside(video: _Video) -> tuple[np.ndarray, Reason]:
  seen, size = video.keypoints[video.seen & video.detected[:, None]], video.resolution
  share = 1 - _inside(seen, size)
  others = size[::-1], size * 1.5, size * 2, size * 3
  fits = [other for other in others if _inside(seen, other) > 1 - OUTSIDE]
  hint = f"; {fits[0][0]:g}x{fits[0][1]:g} would hold them" if fits else ""
  return video.throughout(share >= OUTSIDE), f"{100 * share:.0f}% of the joints lie outside the image{hint}"


def _inside(points: np.ndarray, size) -> float:
  margin = 0.01 * np.max(size)
  return float(((points >= -margin) & (points <= np.asarray(size) + margin)).all(-1).mean()) if len(points) else 1.0


def _lying(video: _Video) -> tuple[np.ndarray, Reason]:
  body = (video.keypoints[:, 10] - (video.keypoints[:, 3] + video.keypoints[:, 6]) / 2)[video.detected]
  side = np.where(np.abs(body[:, 0]) > 1.7 * np.abs(body[:, 1]), np.sign(body[:, 0]), 0)
  share = max((side == 1).mean(), (side == -1).mean()) if len(side) else 0
  text = f"the person lies on the side in {100 * share:.0f}% of the frames: a rotated video, or y before x?"
  return video.throughout(share >= LYING), text


def _upside_down(video: _Video) -> tuple[np.ndarray, Reason]:
  below = (video.keypoints[:, 10, 1] > video.keypoints[:, 0, 1])[video.detected]
  share = below.mean() if len(below) else 0
  text = f"the head is below the hips in {100 * share:.0f}% of the frames: check --layout"
  return video.throughout(share > 0.5), text


def _depth(video: _Video) -> tuple[np.ndarray, Reason]:
  depth = video.root[:, 2]
  wrong = (depth < DEPTH_M[0]) | (depth > DEPTH_M[1])
  return wrong & video.detected, lambda part: (
      f"the person would stand {np.median(depth[part]):.2f} m from the camera: check the intrinsics")


def _reprojection(video: _Video) -> tuple[np.ndarray, Reason]:
  share = video.reprojection_px / video.size
  width = int(WINDOW_S * float(video.record["fps"]) / 2)
  padded = np.pad(share, width, constant_values=np.nan)
  windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1)
  with np.errstate(invalid="ignore"):
    known = np.isfinite(windows).any(-1)
    middle = np.full(len(share), np.nan)
    middle[known] = np.nanmedian(windows[known], -1)
  wrong = np.nan_to_num(middle) > REPROJECTION
  return wrong & video.detected, lambda part: (
      f"the pose misses its keypoints by {100 * np.nanmean(middle[part]):.1f}% of the person's size")


def _diagonal(keypoints: np.ndarray) -> np.ndarray:
  return np.maximum(np.linalg.norm(keypoints.max(1) - keypoints.min(1), axis=-1), 1.0)


def measure_motion(keypoints: np.ndarray, detected: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
  """(motion [n-1], jerk [n-2]): the mean step of keypoints [T j 2] (px) between the n >= 3 frames that are `detected`
  [T], and its change, as shares of the person's box and for 1/30 s.
  """
  frames = np.flatnonzero(detected)
  points = keypoints[frames]
  scale = np.median(_diagonal(points)) * np.maximum(np.diff(frames) * 30 / fps, 1.0)
  step = np.diff(points, axis=0)
  jerk = np.linalg.norm(np.diff(step, axis=0), axis=-1).mean(-1) / scale[1:]
  return np.linalg.norm(step, axis=-1).mean(-1) / scale, jerk


def is_disordered(motion: np.ndarray, jerk: np.ndarray) -> bool:
  """Whether frames of this `measure_motion` are out of order: their motion changes by more than it is."""
  return bool(np.median(jerk) > JERK and np.median(jerk) > 1.2 * np.median(motion[1:]))


def _motion(video: _Video) -> tuple[np.ndarray, Reason]:
  frames = np.flatnonzero(video.detected)
  wrong = np.zeros(len(video.detected), bool)
  if len(frames) > 2:
    motion, jerk = measure_motion(video.keypoints, video.detected, float(video.record["fps"]))
    usual = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(motion, 5, mode="reflect"), 11), -1) if (
        len(motion) > 5) else np.median(motion)
    for at in np.flatnonzero((motion > JUMP) & (motion > SUDDEN * usual)):
      wrong[frames[at] : frames[at + 1] + 1] = True
    wrong |= is_disordered(motion, jerk)
  return wrong, "the motion jumps: frames out of order, or another person's?"


def _unsure(video: _Video) -> tuple[np.ndarray, Reason]:
  sigma = video.sigma_m.mean(-1)
  return video.detected & (sigma > UNSURE_M), lambda part: (
      f"the lifter is not sure of this pose: joints may be {1000 * sigma[part].mean():.0f} mm off")


CHECKS = (
    _undetected, _few_joints, _one_frame, _intrinsics, _outside, _lying, _upside_down, _depth, _reprojection, _motion,
    _unsure,
)
