"""2D keypoints of a video in, 3D poses out, as one call.

    lift = lifter.load()                                     # the base that ships; or a folder or file of yours
    lifted = lift(keypoints_px, resolution=(1920, 1080), fps=30, intrinsics=(1450, 1450, 960, 540))
    lifted.pose + lifted.root[:, None]                       # [T 17 3] metres, camera frame

Keypoints are px and poses metres, in Human3.6M-17 order; another `layout` may be named for the keypoints.
"""

import dataclasses
import pathlib

import numpy as np

from posynda_jax.adaptation import bases
from posynda_jax.adaptation.adapters import AdapterConfig
from posynda_jax.evaluation import lifting, scoring
from posynda_jax.evaluation.lifting import Lifted
from posynda_jax.geometry import body
from posynda_jax.interop.keypoints import recordings
from posynda_jax.interop.video import detection


@dataclasses.dataclass(frozen=True)
class Lifter:
  """Weights and how poses are sampled; `load` makes one.

  `find_up`: people are lifted as a level camera would see them, which takes away an error of orientation. Where the up
  of a recording's camera is not given, it is found from upright people (`lifting.find_up`), if the base has a canonical
  camera and no adapter, which has learnt its target's cameras.
  """

  weights: bases.Weights
  lift: lifting.Program
  config: scoring.SamplingConfig
  find_up: bool = True

  def __call__(
      self, keypoints_px, *, resolution: tuple[float, float], fps: float | None = None,
      intrinsics: tuple[float, ...] | None = None, layout: str = "h36m17", up: tuple[float, ...] | None = None,
  ) -> Lifted:
    """Poses for one person's keypoints [T j 2] or, with scores, [T j 3], in px of a video of `resolution` (width,
    height).

    `intrinsics` are fx, fy, cx, cy in px, or these and k1, k2, k3, p1, p2 in the form of `camera.project`; None takes
    the longest side as focal length. `fps` None means 30. `layout` names the joint order
    (`geometry.layouts.LAYOUTS`). `up` is the direction against gravity in the camera's axes, (0, -1, 0) of a level
    camera; None: it is found, if `find_up`. NaN, (0, 0), (-1, -1) or a low score mean a missing joint: such joints are
    interpolated. `trust` of the answer says which frames and joints can be believed, and why not the others. Raises
    ValueError for another shape, unit or layout.
    """
    numbers = {"resolution": resolution, "intrinsics": intrinsics, "up": up}
    numbers = {name: None if given is None else tuple(map(float, given)) for name, given in numbers.items()}
    options = recordings.Options(**numbers, fps=fps, layout=layout)
    return self.lift_recording(recordings.from_array(keypoints_px, options))

  def lift_recording(self, recording: recordings.Recording) -> Lifted:
    """Poses of a recording that was read from a file or made of detections."""
    return self.settle(recording)[1]

  def settle(self, recording: recordings.Recording) -> tuple[recordings.Recording, Lifted]:
    """The recording and its poses; where either of two sides may be right, those that reproject better."""
    up = {"up": self.up_of(recording.record)}
    found = [(one, self._lift_record(one.record | up)) for one in (recording, recording.other) if one]
    errors = [np.nanmean(lifted.reprojection_px) for _, lifted in found] if recording.other else [0.0]
    settled, lifted = found[int(np.argmin(errors))]
    return dataclasses.replace(settled, other=None), lifted

  def up_of(self, record: dict) -> np.ndarray | None:
    """Up [3] of a record's camera: its own where it says it, or as `find_up` says; None where it is not known."""
    weights, base = self.weights, self.weights.base
    if "up" in record or not (self.find_up and base.view and weights.adapter is None):
      return record.get("up")
    return lifting.find_up(*self._program, record, *self._settings)

  @property
  def _program(self) -> tuple:
    return self.lift, self.weights.params, self.weights.measured

  @property
  def _settings(self) -> tuple:
    return self.weights.base.clip_fps, self.weights.base.model.num_frames, self.config.batch_size

  def _lift_record(self, record: dict) -> Lifted:
    return lifting.lift_record(*self._program, record, *self._settings)

  def from_video(
      self, path, detector, *, model: str = "full", person: int = 0, intrinsics: tuple[float, ...] | None = None
  ) -> Lifted:
    """Poses of one person of a video file. `detector` is the folder of BlazePose's models (`data_prep.detector`), of
    which `model` finds the joints, or "rtmlib".

    `person` counts from the one who is seen longest and surest. Raises as `interop.video.detection.load`, `detect`.
    """
    found = detection.detect(path, detection.load(detector, model))
    options = recordings.Options(intrinsics=intrinsics, person=str(person))
    return self.lift_recording(recordings.from_detections(found, options, str(path)))


def load(base=bases.DEFAULT, adapter=None, scale: float = 1.0, **settings) -> Lifter:
  """A lifter of `base`: a name or path for `bases.load`, a `bases.Base`, or the `bases.Weights` of a job's result.

  `adapter`: the path of an adaptation run or an adapter's `.safetensors` file, or a tree {"lora", "bias"} with its
  LoRA `scale`. `settings` are fields of `scoring.SamplingConfig`. Raises as `bases.load` and `bases.load_weights`.
  """
  if isinstance(base, bases.Weights):
    weights = base
  elif isinstance(adapter, str | pathlib.Path):
    weights = bases.load_weights(adapter, base=base)
  else:
    base = base if isinstance(base, bases.Base) else bases.load(base)
    weights = bases.Weights(base, adapter, AdapterConfig(scale=scale), base.body)
  body.check_refinement(settings.get("refine", "none"), weights.body)
  config = scoring.SamplingConfig(**{"diffusion": weights.base.diffusion, **settings})
  return Lifter(weights, lifting.make_lifter(weights.make_doubting, config), config)
