"""Everybody in a video, tracked, as detections that `interop.keypoints` reads."""

import pathlib
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from posynda_jax.geometry import layouts
from posynda_jax.interop.keypoints import people as tracks
from posynda_jax.interop.keypoints.detections import Detections
from posynda_jax.interop.video import reader, rtm
from posynda_jax.interop.video.blazepose import BlazePose, Region
from posynda_jax.runtime import files

LAYOUT = "mediapipe33"
MAX_PEOPLE = 4
EVERY = 10  # frames between two looks for new people
_SAME = 0.5  # distance of two regions of one person, as a share of their side
_OFF = 0.25  # of a frame's time: farther from an even grid, frames are resampled


def load(where: str, model: str = "full") -> BlazePose | rtm.RtmPose:
  """The detector of a folder of BlazePose's models, or of "rtmlib", "rtmlib:MODE", "rtmlib:FOLDER". Raises ValueError
  as the two do.
  """
  name, _, of_rtmlib = str(where).partition(":")
  return rtm.RtmPose(of_rtmlib or "balanced") if name == rtm.NAME else BlazePose(where, model)


def detect(path, network: BlazePose | rtm.RtmPose) -> Detections:
  """The people of a video file. Raises as `reader.probe`, and ValueError without people."""
  info = reader.probe(path)
  shown = tqdm(reader.frames(path), total=info.num_frames or None, desc="detect", unit="frame", leave=False)
  if isinstance(network, rtm.RtmPose):
    layout, (times, rows) = network.layout, follow(shown, network)
  else:
    layout, (times, rows) = LAYOUT, track(shown, network)
    rows = [(t, number, one.joints) for t, number, one in rows]
  if not rows:
    raise ValueError(f"{path} shows nobody in any of {len(times):,} frames")
  frame, person, joints = (np.array(part) for part in zip(*rows, strict=True))
  frame, person, joints, fps = even(np.array(times), frame, person, joints, layouts.COCO[layout])
  return Detections(
      frame, joints[..., :2], joints[..., 2], layout, person, num_frames=int(frame.max()) + 1,
      resolution=info.resolution, fps=fps)


def follow(images: Iterable[tuple[float, np.ndarray]], network: rtm.RtmPose):
  """(times [T], rows of (frame, person, joints [17 3])) of a network that sees each image for itself."""
  times, frame, joints = [], [], []
  for t, (time, image) in enumerate(images):
    times.append(time)
    found = network(image)
    frame += [t] * len(found)
    joints += list(found)
  if not frame:
    return times, []
  points = np.array(joints)[..., :2]
  boxes = np.concatenate([points.min(1), points.max(1)], 1)
  return times, list(zip(frame, tracks.track(np.array(frame), boxes), joints, strict=True))


def track(images: Iterable[tuple[float, np.ndarray]], network: BlazePose, people: int = MAX_PEOPLE):
  """(times [T], rows of (frame, person, Found)) of the images; a person's number is never used again."""
  times, rows, active, count = [], [], {}, 0
  for t, (time, image) in enumerate(images):
    times.append(time)
    if len(active) < people and (not active or t % EVERY == 0):
      for region in network.find(image):
        if len(active) < people and not any(_are_same(region, other) for other in active.values()):
          active[count], count = region, count + 1
    following: dict[int, Region] = {}
    for number, region in active.items():
      found = network.locate(image, region)
      if found and not any(_are_same(found.region, other) for other in following.values()):
        rows.append((t, number, found))
        following[number] = found.region
    active = following
  return times, rows


def _are_same(one: Region, other: Region) -> bool:
  return bool(np.linalg.norm(one.centre - other.centre) < _SAME * min(one.side, other.side))


def even(times: np.ndarray, frame: np.ndarray, person: np.ndarray, joints: np.ndarray, coco: tuple[int, ...]):
  """(frame, person, joints, fps) at even times: videos of a variable rate are interpolated, person by person.

  Where a pair of joints moves less with left and right exchanged between two frames, the nearer frame counts, because a
  point between left and right is neither. `coco`: the places of COCO-17 in the joints.
  """
  steps = np.diff(times)
  fps = float(1 / np.median(steps)) if len(steps) else 30.0
  grid = (times - times[0]) * fps
  if np.abs(grid - np.arange(len(grid))).max() < _OFF:
    return frame, person, joints, fps
  mirrored = np.arange(joints.shape[1])
  mirrored[[coco[1::2], coco[2::2]]] = [coco[2::2], coco[1::2]]
  parts = []
  for number in np.unique(person):
    rows = person == number
    at, values = grid[frame[rows]], joints[rows]
    new = np.arange(np.ceil(at[0] - 1e-6), np.floor(at[-1] + 1e-6) + 1)
    after = np.searchsorted(at, new).clip(max=len(at) - 1)
    before = np.maximum(after - 1, 0)
    kept = at[after] - at[before] <= EVERY
    new, after, before = new[kept], after[kept], before[kept]
    share = np.clip((new - at[before]) / np.maximum(at[after] - at[before], 1e-9), 0, 1)[:, None, None]
    one, other = values[before], values[after]
    stay, cross = (np.linalg.norm((one - to)[..., :2], axis=-1) for to in (other, other[:, mirrored]))
    exchanged = stay + stay[:, mirrored] > cross + cross[:, mirrored]
    share = np.where(exchanged[..., None], np.round(share), share)
    parts.append((new.astype(np.int64), np.full(len(new), number), (1 - share) * one + share * other))
  return *(np.concatenate(part) for part in zip(*parts, strict=True)), fps


def save(path, found: Detections) -> None:
  """Writes detections as an npz of format `keypoints_scores`: arrays by frame and person, and what the video said."""
  numbers = np.unique(found.person)
  shape = (int(found.frame.max()) + 1, len(numbers), found.points.shape[1])
  points, scores = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
  column = np.searchsorted(numbers, found.person)
  points[found.frame, column], scores[found.frame, column] = np.nan_to_num(found.points), found.scores
  with files.writing(pathlib.Path(path)) as file:
    np.savez_compressed(
        file, keypoints=points, scores=scores, tracked=np.array(True), resolution=np.array(found.resolution),
        fps=np.array(found.fps))
