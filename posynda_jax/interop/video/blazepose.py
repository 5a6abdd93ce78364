"""BlazePose (Bazarevsky et al. 2020) as MediaPipe runs it: a detector finds people, a second network their joints.

    image --224 px, letter box--> people: hip centre, and a point that shows size and rotation --> Region
    image --256 px, Region--> 39 landmarks, refined on their heat maps --> 33 joints (px), next frame's Region

MediaPipe takes regions as they are and reads them bilinearly. Here they lie on a grid, and means of pixels are read.
The models are Google's, under Apache-2.0; `data_prep.detector` fetches them from a wheel.
"""

import dataclasses
import pathlib

import numpy as np
from PIL import Image
from scipy import ndimage

from posynda_jax.interop.video import reader

DETECTOR = "pose_detection.tflite"
LANDMARKS = {name: f"pose_landmark_{name}.tflite" for name in ("lite", "full", "heavy")}
_DETECTOR_SIZE, _SIZE = 224, 256
_LEAST_SCORE, _LEAST_PRESENCE = 0.5, 0.5
_OVERLAP = 0.3  # intersection over union of two boxes that are one person
_MARGIN = 1.25  # a region's side, as a multiple of the person's circle
_SIDES, _CELLS, _TURN = 8, 10, np.pi / 18  # of the grid of regions: sides an octave, cells a side, step of the angle
_HIP, _TOP = 33, 34  # landmarks that show where the person is: the hips' middle, and a point on the circle around it
_KERNEL, _LEAST_HEAT = 7, 0.5  # of the refinement


@dataclasses.dataclass(frozen=True)
class Found:
  """A person in an image: `joints` [33 3] of px and visibility, `world` [33 3] of metres around the hips' middle (x
  right, y down, z away), and the region of the next frame.
  """

  joints: np.ndarray
  world: np.ndarray
  region: "Region"


@dataclasses.dataclass(frozen=True)
class Region:
  """A square of the image (px) with a person upright in it: centre, side and angle (radians, clockwise)."""

  centre: np.ndarray
  side: float
  angle: float

  @staticmethod
  def around(hip: np.ndarray, top: np.ndarray) -> "Region":
    """The region of a person with these two points (px)."""
    across, up = top - hip
    return Region(hip, 2 * _MARGIN * float(np.hypot(across, up)), float(np.pi / 2 - np.arctan2(-up, across)))

  def on_grid(self) -> "Region":
    """The nearest region of a grid. Answers of the networks differ by pixels where their regions differ by less than
    one; on a grid, frames that are reached by way of other frames mostly get the same region, so the same answer.
    """
    side = float(2 ** (np.round(_SIDES * np.log2(max(self.side, 1.0))) / _SIDES))
    cell = side / _CELLS
    return Region(np.round(self.centre / cell) * cell, side, float(np.round(self.angle / _TURN) * _TURN))

  def to_image(self, points: np.ndarray) -> np.ndarray:
    """Points [... 2] of the square (0 to 1) in the image (px)."""
    cosine, sine = np.cos(self.angle), np.sin(self.angle)
    turned = self.side * (points - 0.5) @ np.array([[cosine, sine], [-sine, cosine]])
    return turned + self.centre


def crop(image: np.ndarray, region: Region, size: int) -> np.ndarray:
  """The region as an image [size size 3] of float32 in 0..1, black beyond the image's edge; bilinear, from means of as
  many pixels as one of its own spans, so that nearly equal regions give nearly equal images.
  """
  step = max(int(region.side / size), 1)
  corners = region.to_image(np.array([[0, 0], [0, 1], [1, 0], [1, 1]])) / step
  low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0) * step
  high = np.minimum((np.ceil(corners.max(0)).astype(int) + 1) * step, image.shape[1::-1])
  if (high <= low).any():
    return np.zeros((size, size, 3), np.float32)
  small = np.asarray(Image.fromarray(image[low[1] : high[1], low[0] : high[0]]).reduce(step))
  steps = (np.arange(size) + 0.5) / size
  points = (region.to_image(np.stack(np.meshgrid(steps, steps), -1)) - low) / step - 0.5
  x, y = np.moveaxis(points, -1, 0)
  colours = [ndimage.map_coordinates(channel, (y, x), np.float32, order=1, mode="grid-constant")
             for channel in np.moveaxis(small, -1, 0)]
  return np.stack(colours, -1) / 255


def _anchors() -> np.ndarray:
  """Centres [2254 2] of the detector's anchors, in shares of its image: two a cell of 8 and 16 px, six of 32 px."""
  found = []
  for stride, per_cell in ((8, 2), (16, 2), (32, 6)):
    cells = (np.arange(_DETECTOR_SIZE // stride) + 0.5) * stride / _DETECTOR_SIZE
    y, x = np.meshgrid(cells, cells, indexing="ij")
    found.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), per_cell, 0))
  return np.concatenate(found).astype(np.float32)


class BlazePose:
  """The two networks. `model`: "lite", "full" or "heavy". Raises ValueError where packages or models are missing."""

  def __init__(self, folder, model: str = "full", threads: int | None = None):
    folder = pathlib.Path(folder).expanduser()
    self._detect = _load(folder / DETECTOR, threads)
    self._locate = _load(folder / LANDMARKS[model], threads)
    self._centres = _anchors()

  def find(self, image: np.ndarray) -> list[Region]:
    """Regions of the people in an image [h w 3] of uint8, the surest first."""
    height, width = image.shape[:2]
    whole = Region(np.array([width, height]) / 2, float(max(width, height)), 0.0)
    raw, score = self._detect(2 * crop(image, whole, _DETECTOR_SIZE) - 1)
    score = 1 / (1 + np.exp(-np.clip(score[0, :, 0], -80, 80)))
    sure = np.flatnonzero(score >= _LEAST_SCORE)
    values = raw[0, sure].reshape(-1, 6, 2) / _DETECTOR_SIZE  # centre and size of the box, then four points
    values[:, 0] += self._centres[sure]
    values[:, 2:] += self._centres[sure][:, None]
    merged = _merge(values, score[sure])
    return [Region.around(*whole.to_image(one[2:4])) for one in merged]

  def locate(self, image: np.ndarray, region: Region) -> Found | None:
    """The person in a region, on the grid; None if nobody is there."""
    region = region.on_grid()
    found, presence, _, heat, world = self._locate(crop(image, region, _SIZE))
    if float(presence.ravel()[0]) < _LEAST_PRESENCE:
      return None
    values = found.reshape(39, 5)
    points = _refine(values[:, :2] / _SIZE, heat[0])
    seen = 1 / (1 + np.exp(-values[:, 3:].min(-1)))  # the less sure of visible and present
    px = region.to_image(points)
    world = world.reshape(39, 3)[:33].astype(np.float64)
    world[:, :2] = dataclasses.replace(region, centre=np.zeros(2), side=1.0).to_image(world[:, :2] + 0.5)
    return Found(np.concatenate([px[:33], seen[:33, None]], -1), world, Region.around(px[_HIP], px[_TOP]))


def _load(path: pathlib.Path, threads: int | None):
  """A function image [h w 3] -> outputs, in the order of their names."""
  if not path.is_file():
    raise ValueError(f"{path} does not exist: python -m data_prep.detector --help says how to get BlazePose's models")
  try:
    from ai_edge_litert.interpreter import Interpreter
  except ImportError as error:
    raise ValueError(reader.INSTALL.format(error)) from error
  try:
    network = Interpreter(str(path), num_threads=threads)
    network.allocate_tensors()
  except (ValueError, RuntimeError) as error:
    what = " ".join(str(error).split())[:200]
    raise ValueError(f"{path} is no model that can be run ({what}): fetch it again") from error
  outputs = sorted(network.get_output_details(), key=lambda one: one["name"])
  entry = network.get_input_details()[0]["index"]

  def run(image):
    network.set_tensor(entry, image[None].astype(np.float32))
    network.invoke()
    return [network.get_tensor(one["index"]) for one in outputs]

  return run


def _merge(values: np.ndarray, score: np.ndarray) -> list[np.ndarray]:
  """Detections [n 6 2] whose boxes overlap, as means weighted by score."""
  low, high = values[:, 0] - values[:, 1] / 2, values[:, 0] + values[:, 1] / 2
  left, found = list(np.argsort(-score)), []
  while left:
    best = left[0]
    shared = np.maximum(np.minimum(high[best], high[left]) - np.maximum(low[best], low[left]), 0).prod(-1)
    area = (high - low).prod(-1)
    same = shared / np.maximum(area[best] + area[left] - shared, 1e-9) > _OVERLAP
    rows = np.array(left)[same] if same.any() else np.array([best])
    found.append(np.average(values[rows], 0, score[rows]))
    left = [row for row in left if row not in rows]
  return found


def _refine(points: np.ndarray, heat: np.ndarray) -> np.ndarray:
  """Points [39 2] (0 to 1) moved to the mean of their heat map [64 64 39] around them, where it is sure."""
  height, width, _ = heat.shape
  refined, reach = points.copy(), _KERNEL // 2
  for i, (x, y) in enumerate(points):
    column, row = int(x * width), int(y * height)
    if not (0 <= column < width and 0 <= row < height):
      continue
    rows = np.arange(max(row - reach, 0), min(row + reach + 1, height))
    columns = np.arange(max(column - reach, 0), min(column + reach + 1, width))
    weight = 1 / (1 + np.exp(-heat[rows[:, None], columns, i]))
    if weight.max() >= _LEAST_HEAT:
      refined[i] = (weight.sum(0) @ columns / width / weight.sum(), weight.sum(1) @ rows / height / weight.sum())
  return refined
