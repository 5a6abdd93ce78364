"""Flags that describe the keypoints of your own video, for the scripts that read them."""

import functools
import pathlib

import numpy as np
from absl import flags

from posynda_jax.adaptation import sources
from posynda_jax.geometry import layouts
from posynda_jax.interop.keypoints import formats, recordings, targets
from posynda_jax.interop.video import blazepose, detection

from . import common

RESOLUTION = flags.DEFINE_string("resolution", None, "WIDTHxHEIGHT in px of the video of own keypoints.")
INTRINSICS = flags.DEFINE_list(
    "intrinsics", None, "fx,fy,cx,cy in px of the video's camera, or these and k1,k2,k3,p1,p2 in the form of "
    "`posynda_jax.geometry.camera.project`, which is not OpenCV's. Default: focal length = longest side, with a "
    "warning.")
FPS = flags.DEFINE_float("fps", None, f"Frames a second. Default: {recordings.GUESSED_FPS:g}, with a warning.")
FORMAT = flags.DEFINE_enum("format", None, list(formats.FORMATS), "Format of the file. Default: by its content.")
LAYOUT = flags.DEFINE_enum(
    "layout", None, list(layouts.LAYOUTS), "Joint order. Default: by format and number of joints.")
PERSON = flags.DEFINE_string(
    "person", "auto", "Person: auto (most confident, longest), a number of the printed list, or all.")
DETECTOR = flags.DEFINE_string(
    "detector", "~/.cache/posynda_jax/blazepose", "What finds people in a video: the folder of BlazePose's models, "
    "which data_prep.detector fetches; or rtmlib, rtmlib:lightweight, rtmlib:performance, rtmlib:FOLDER of ONNX files.")
MODEL = flags.DEFINE_enum("model", "full", list(blazepose.LANDMARKS), "BlazePose's model that finds joints.")
SEQUENCE = flags.DEFINE_string("sequence", None, "Name of the video, if the file holds several.")


VIDEO = "video:"


def options_from_flags() -> recordings.Options:
  """The options that the flags give. Raises ValueError."""
  return recordings.Options(
      resolution=_numbers("resolution", RESOLUTION.value.lower().split("x")) if RESOLUTION.value else None,
      intrinsics=_numbers("intrinsics", INTRINSICS.value) if INTRINSICS.value else None,
      fps=FPS.value, layout=LAYOUT.value, format=FORMAT.value,
      person=PERSON.value, sequence=SEQUENCE.value,
  )


def _numbers(flag: str, texts: list[str]) -> tuple[float, ...]:
  try:
    return tuple(float(text) for text in texts)
  except ValueError as error:
    example = "write --resolution=1920x1080, --intrinsics=fx,fy,cx,cy"
    raise ValueError(f"--{flag}={','.join(texts)}: {error}; {example}") from None


@functools.cache
def read(path: str) -> list[recordings.Recording]:
  """The recordings of a file or folder under the flags; what was read, chosen and guessed is printed once."""
  found = recordings.read(path, options_from_flags())
  print(targets.describe(found), flush=True)
  return found


def as_detected(record: dict) -> tuple[np.ndarray, dict]:
  """(points [T 17 3] of px and score, fields of `recordings.Options`) of a dataset's record, as a detector's file would
  have them.
  """
  points = np.concatenate([record["keypoints_px"], record["confidence"][..., None]], -1).astype(np.float64)
  told = {name: tuple(map(float, record[name])) for name in ("resolution", "intrinsics")}
  return points, told | {"fps": float(record["fps"]), "layout": "h36m17"}


def is_inside(record: dict) -> bool:
  """Whether a detector could see the person of a record in all frames."""
  points = record["keypoints_px"]
  return bool(record["valid"].all() and ((points >= 0) & (points <= record["resolution"])).all(-1).mean() > 0.98)


def detect(video: str, kept: pathlib.Path) -> str:
  """The file `kept` with the 2D of everybody in a video; a file that is there already is used again."""
  if kept.exists():
    print(f"2D of {video} is in {kept}: delete it to detect anew", flush=True)
  else:
    detection.save(kept, detection.detect(video, detection.load(DETECTOR.value, MODEL.value)))
  return str(kept)


def load_target(name: str) -> str | sources.Unlabelled:
  """The target of a job: `keypoints:FILE` is read, `video:FILE` is detected, and another name is returned as it is."""
  if name.startswith(VIDEO):
    video = pathlib.Path(name.removeprefix(VIDEO))
    folder = pathlib.Path(common.need_workdir()).expanduser()
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = targets.PREFIX + detect(str(video), folder.parent / f"{video.stem}_2d.npz")
  if not targets.is_own(name):
    return name
  return targets.from_recordings(name, read(name.removeprefix(targets.PREFIX)), options_from_flags())
