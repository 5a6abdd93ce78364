"""A video's frames, turned upright, with their times."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

INSTALL = "reading videos needs packages that are not installed ({}): pip install 'posynda_jax[video]'"


@dataclasses.dataclass(frozen=True)
class Info:
  """What a video's container says. `resolution`: width and height (px) of the upright frames. `num_frames` 0: not
  known. `focal`: focal length as a multiple of the longest side, None where no camera wrote it.
  """

  resolution: tuple[float, float]
  fps: float
  num_frames: int
  rotation: int
  focal: float | None = None


def _open(path):
  try:
    import av
  except ImportError as error:
    raise ValueError(INSTALL.format(error)) from error
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist: give a video file")
  try:
    container = av.open(str(path))
    if not container.streams.video:
      raise ValueError(f"{path} has no video in it")
    container.streams.video[0].thread_type = "AUTO"
    return container
  except av.FFmpegError as error:
    raise ValueError(f"{path} cannot be read as a video ({error}): damaged, or of another kind") from error


def probe(path) -> Info:
  """The video's Info. Raises FileNotFoundError, and ValueError for what is no video or cannot be decoded."""
  with _open(path) as container:
    stream = container.streams.video[0]
    first = next(_decode(container, path), None)
    if first is None:
      raise ValueError(f"{path} has no frame that can be decoded")
    rotation = int(round(first.rotation / 90) * 90) % 360
    size = (float(first.width), float(first.height))
    written = {name.lower(): value for name, value in {**container.metadata, **stream.metadata}.items()}
    focal = next((value for name, value in written.items() if name.endswith("focal_length.35mm_equivalent")), None)
    rate = float(stream.average_rate or stream.base_rate or 30)
    return Info(
        size[::-1] if rotation % 180 else size, rate, int(stream.frames or 0), rotation,
        float(focal) / 36 if focal else None)


def frames(path) -> Iterator[tuple[float, np.ndarray]]:
  """(time in s, image [h w 3] of uint8, RGB, upright) of each frame. Frames after damage are left out."""
  with _open(path) as container:
    for number, frame in enumerate(_decode(container, path)):
      yield frame.time if frame.time is not None else number / 30, _upright(frame)


def _upright(frame) -> np.ndarray:
  """The image [h w 3] of a decoded frame, turned as its container says."""
  return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), int(round(frame.rotation / 90)) % 4))


def pictures(path, seconds: Iterable[float]) -> list[np.ndarray]:
  """The images, as of `frames`, that are shown at the given times after the first frame, which increase."""
  found = []
  with _open(path) as container:
    stream = container.streams.video[0]
    start = float((stream.start_time or 0) * stream.time_base)
    for wanted in seconds:
      container.seek(int(max(start + wanted - 0.1, 0) / stream.time_base), stream=stream)
      shown = None
      for shown in _decode(container, path):
        if shown.time is None or shown.time >= start + wanted - 1e-3:
          break
      if shown is None:
        raise ValueError(f"{path} has no frame at {wanted:.2f} s")
      found.append(_upright(shown))
  return found


def _decode(container, path):
  import av

  try:
    yield from container.decode(video=0)
  except av.FFmpegError as error:
    raise ValueError(f"{path} breaks off or is damaged ({error})") from error
