"""What a detector got wrong in one person's keypoints, and what can be mended: joints it does not trust, gaps, left and
right exchanged, joints that jump away and back, joints it never saw.

Points are px [T j 2], NaN where nothing is known; scores [T j] are 0 there.
"""

import numpy as np

from posynda_jax.evaluation import trust
from posynda_jax.geometry import skeleton, virtual_camera

# Least score of a joint whose coordinates count, by format. Detectron gives clearly visible hips 0.14.
TRUSTED = {"detectron": 0.05, "openpose": 0.1}
TRUSTED_ELSE = 0.2
SHORT_S = 0.2  # gaps up to this many seconds are filled by joints that count as seen
MAX_FRAMES = 1_000_000
_TURN_COST, _APART_COST, _TURNED_COST = 0.02, 0.001, 1e-5  # of the shortest path, as shares of the box's diagonal
_JUMP, _JUMP_SPEED = 0.05, 3.0  # least jump, in a person's sizes, and the least speed, in sizes a second
_JUMPS = 0.25  # share of frames from which jumps are no rare fault, and nothing says where the joints are
_NEW_AFTER = 10  # frames without a detection after which motion says nothing about sides
_MIRROR = np.arange(17)
_MIRROR[list(skeleton.LEFT + skeleton.RIGHT)] = skeleton.RIGHT + skeleton.LEFT
_LIMBS = tuple(np.array(skeleton.LEFT[i : i + 3] + skeleton.RIGHT[i : i + 3]) for i in (0, 3))  # legs, arms
_STATES = np.array([[False, False], [True, False], [False, True], [True, True]])  # legs, arms: mirrored
# A person who stands, seen from the front, for joints that nobody saw: x, y with the hip at 0 and the thorax at -1.
_STANDING = np.array([
    [0, 0], [-0.26, 0], [-0.26, 0.87], [-0.26, 1.77], [0.26, 0], [0.26, 0.87], [0.26, 1.77], [0, -0.5], [0, -1],
    [0, -1.25], [0, -1.5], [0.33, -0.95], [0.4, -0.37], [0.42, 0.15], [-0.33, -0.95], [-0.4, -0.37], [-0.42, 0.15],
])


def least_score(format_name: str) -> float:
  """The score from which a joint's coordinates count."""
  return TRUSTED.get(format_name, TRUSTED_ELSE)


def drop_untrusted(points: np.ndarray, scores: np.ndarray, format_name: str) -> tuple[np.ndarray, np.ndarray]:
  """Points and scores without joints whose score is below the detector's least; others count as seen."""
  low = scores < least_score(format_name)
  seen = np.maximum(scores, np.float32(virtual_camera.SEEN))
  return np.where(low[..., None], np.nan, points), np.where(low, np.float32(0), seen)


def fill(frames: np.ndarray, points: np.ndarray, scores: np.ndarray, fps: float, label="keypoints"):
  """(points [T j 2], scores [T j], seen [T], counts) of every frame from the first to the last.

  Lost joints are interpolated linearly, or held before the first and after the last detection. Over gaps of SHORT_S
  they count as barely seen in frames with a detection; all others have score 0. A joint without any detection stays
  NaN. `frames` [n] increase. Raises ValueError for more than MAX_FRAMES.
  """
  length = int(frames[-1] - frames[0]) + 1
  if length > MAX_FRAMES:
    span = f"frames {frames[0]:,} to {frames[-1]:,}"
    raise ValueError(f"{label} runs over {span}, more than {MAX_FRAMES:,}: number the frames one by one")
  at, every = frames - frames[0], np.arange(length)
  out, all_scores = np.full((length, *points.shape[1:]), np.nan), np.zeros((length, points.shape[1]), scores.dtype)
  all_scores[at] = scores
  seen = np.zeros(length, bool)
  seen[at[(scores > 0).any(-1)]] = True
  for joint in range(points.shape[1]):
    there = np.isfinite(points[:, joint]).all(-1)
    known = at[there]
    if not len(known):
      continue
    for axis in range(2):
      out[:, joint, axis] = np.interp(every, known, points[there, joint, axis])
    after = np.searchsorted(known, every).clip(1, max(len(known) - 1, 1))
    inside = seen & (every > known[0]) & (every < known[-1])
    short = inside & (known[np.minimum(after, len(known) - 1)] - known[after - 1] - 1 <= SHORT_S * fps)
    all_scores[:, joint] = np.where((all_scores[:, joint] == 0) & short, virtual_camera.SEEN, all_scores[:, joint])
  counts = {
      "interpolated_frames": int(length - seen.sum()),
      "longest_gap": int(np.diff(at).max(initial=1)) - 1,
      "lost_joints_percent": round(100 * float((scores == 0).mean()), 2),
  }
  return out, all_scores, seen, counts


def complete(keypoints: np.ndarray, label="keypoints", why: str = "check --layout") -> list[str]:
  """Names of the joints of keypoints [T 17 2] that are NaN throughout. Each is put, in place, where a standing person
  of the seen joints' size and direction has it. Raises ValueError, with the cause `why`, if no joint is seen.
  """
  never = np.isnan(keypoints).any((0, 2))
  if never.all():
    raise ValueError(f"{label}: no joint of Human3.6M-17 is seen in any frame: {why}")
  if never.any():
    known = ~never
    middle = _STANDING[known].mean(0)
    own, seen = _STANDING[known] - middle, keypoints[:, known]
    place = seen.mean(1, keepdims=True)
    slope = ((seen - place) * own).sum(1) / np.maximum((own**2).sum(0), 1e-6)  # T 2: of x and y apart
    slope[:, 1] = np.where((own[:, 1] ** 2).sum() > 1e-6, slope[:, 1], np.abs(slope[:, 0]))
    keypoints[:, never] = place + slope[:, None] * (_STANDING[never] - middle)
  return [skeleton.JOINTS[j] for j in np.flatnonzero(never)]


def find_exchanged(keypoints: np.ndarray, seen: np.ndarray) -> np.ndarray:
  """Where left and right of keypoints [T 17 2] are exchanged [T 17], by the shortest path of legs and arms.

  In every frame the legs, and the arms, are as they are or mirrored. A path costs the mean motion of both as a share of
  the person's size, _TURN_COST at each exchange, and for each frame _APART_COST if legs and arms differ and
  _TURNED_COST if one is mirrored. `seen` [T]: frames with a detection. Of a path and its mirror image, the one with
  fewer mirrored frames counts.
  """
  exchanged, frames = np.zeros(keypoints.shape[:2], bool), np.flatnonzero(seen)
  if len(frames) < 3:
    return exchanged
  points = keypoints[frames]
  points = points / (np.median(np.linalg.norm(points.max(1) - points.min(1), axis=-1)) + 1e-9)
  new = np.diff(frames) > _NEW_AFTER  # motion says nothing

  def motion(limbs, turned):
    now = points[1:][:, _MIRROR[limbs] if turned else limbs]
    return np.where(new, 0, np.linalg.norm(now - points[:-1][:, limbs], axis=-1).mean(-1))

  step = sum(  # n-1 from to: of the four states of legs and arms
      np.stack([motion(limbs, False), motion(limbs, True)])[(states[:, None] != states).astype(int)]
      for limbs, states in zip(_LIMBS, _STATES.T, strict=True))
  step = np.moveaxis(step, -1, 0) + _TURN_COST * (_STATES[:, None] != _STATES).any(-1)
  rest = _APART_COST * (_STATES[:, 0] != _STATES[:, 1]) + _TURNED_COST * _STATES.sum(-1)
  cost, came = rest.copy(), np.zeros((len(points), 4), int)
  for t in range(1, len(points)):
    paths = cost[:, None] + step[t - 1]
    came[t] = paths.argmin(0)
    cost = paths.min(0) + rest
  path = np.empty(len(points), int)
  path[-1] = cost.argmin()
  for t in range(len(points) - 1, 0, -1):
    path[t - 1] = came[t, path[t]]
  mirrored = _STATES[path]
  if mirrored.mean() > 0.5:
    mirrored = ~mirrored
  for limbs, of_limbs in zip(_LIMBS, mirrored.T, strict=True):
    exchanged[np.ix_(frames, limbs)] = of_limbs[:, None]
  return exchanged


def mirror(keypoints, confidence):
  """Keypoints [T 17 2] and confidence [T 17] with left and right exchanged in every frame."""
  return keypoints[:, _MIRROR], confidence[:, _MIRROR]


def exchange(keypoints, confidence, exchanged, fps: float):
  """(keypoints [T 17 2], confidence [T 17]) with sides exchanged back where `exchanged` [T 17], and what was
  interpolated between them interpolated anew.
  """
  mirrored = mirror(keypoints, confidence)
  keypoints = np.where(exchanged[..., None], mirrored[0], keypoints)
  confidence = np.where(exchanged, mirrored[1], confidence)
  return interpolate(keypoints, confidence, confidence <= virtual_camera.SEEN, fps)


def find_jumps(keypoints: np.ndarray, seen: np.ndarray, fps: float) -> np.ndarray:
  """Joints of keypoints [T 17 2] that are away for a frame or two [T 17]: from the median of five frames by _JUMP and,
  at _JUMP_SPEED, farther than a body moves from frame to frame. None if more than _JUMPS of the frames `seen` [T] have
  some, or if frames are out of order, which interpolation would hide from the trust. (Of people in CMU's and ACCAD's
  motion at 30 frames a second, 1 and 4 in 10,000 frames have one.)
  """
  from scipy import ndimage  # slow to import

  jumps = np.zeros(keypoints.shape[:2], bool)
  known = np.flatnonzero(np.isfinite(keypoints).all((0, 2)))  # joints that were seen at all
  if not len(known):
    return jumps
  points = keypoints[:, known]
  size = np.linalg.norm(points.max(1) - points.min(1), axis=-1)
  size = ndimage.median_filter(size, 2 * round(fps / 2) + 1, mode="nearest")  # over a second
  away = np.linalg.norm(points - ndimage.median_filter(points, (5, 1, 1), mode="nearest"), axis=-1)
  jumps[:, known] = (away > max(_JUMP, _JUMP_SPEED / fps) * size[:, None]) & seen[:, None]
  rare = 0 < jumps.any(-1).sum() <= _JUMPS * seen.sum()
  return jumps & (rare and not trust.is_disordered(*trust.measure_motion(points, seen, fps)))


def interpolate(keypoints, confidence, lost, fps: float):
  """(keypoints [T 17 2], confidence [T 17]) with the joints that are `lost` [T 17] interpolated between the others."""
  without = np.where(lost[..., None], np.nan, keypoints)
  filled, found = fill(np.arange(len(keypoints)), without, np.where(lost, 0, confidence), fps)[:2]
  return np.where(lost[..., None], filled, keypoints), np.where(lost, found, confidence)
