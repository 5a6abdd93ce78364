"""The frozen teacher of one update: what it answers about a batch of target clips, each answer computed once.

The teacher is the student after its last update (Algorithm 1, line 20), or the bare base (`frozen_teacher`). It is
never differentiated, and it never reads target poses. Target clips are one device's share of the batch: `keypoints`
[b f j 2] and `intrinsics` [b 9] screen-normalised, `confidence` [b f j], `valid` [b f], and `inputs` [b f j i] of the
denoiser. Answers about all people (`bones`, `up`) are taken over the clips of all devices.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from posynda_jax.adaptation import placement
from posynda_jax.diffusion import process, sampler
from posynda_jax.diffusion.hypotheses import Granularity, by_bones, choose, pick, reprojection_error, solve_roots
from posynda_jax.geometry import body, skeleton
from posynda_jax.runtime import parallel


class Teacher:
  """A denoiser asked about target clips, inside one trace of a parallel step.

  `keys` [b]: noise of the hypotheses, one key a clip. `source_body` [16]: mean bone lengths (m) of the source's people.
  `chunk`: hypotheses that are computed at once; 0 is all.
  """

  def __init__(
      self, denoise: sampler.Denoiser, target: dict, keys: Array, source_body: Float[Array, "16"],
      steps: process.DdimSteps, num_hypotheses: int, chunk: int = 0,
  ):
    self.target, self.source_body = target, source_body
    self._denoise, self._keys, self._steps, self._num, self._chunk = denoise, keys, steps, num_hypotheses, chunk
    self._chosen: dict[str, Array] = {}

  @property
  def observed(self) -> tuple[Array, Array, Array]:
    """(keypoints, intrinsics, confidence) of the target clips."""
    return self.target["keypoints"], self.target["intrinsics"], self.target["confidence"]

  @functools.cached_property
  def hypotheses(self) -> Float[Array, "h b f j 3"]:
    """H hypotheses of each clip (m), as the sampler returns them."""
    poses = sampler.propose(self._keys, self._denoise, self.target["inputs"], self._steps, self._num, self._chunk)
    return jax.lax.stop_gradient(poses)

  @functools.cached_property
  def errors(self) -> Float[Array, "h b f j"]:
    """Reprojection error of every hypothesis under its own solved root (Eq. 4)."""
    roots = solve_roots(self.hypotheses, *self.observed)
    return reprojection_error(self.hypotheses, roots, *self.observed[:2])

  def chosen(self, rule: Granularity | Literal["bones"] = "frame") -> Float[Array, "b f j 3"]:
    """The hypothesis of least reprojection error (Eq. 5) of each sequence, frame or joint; or by the person's bones."""
    if rule == "bones":
      return by_bones(self.hypotheses, self.target["body"])
    if rule not in self._chosen:
      self._chosen[rule] = pick(self.hypotheses, choose(self.errors, self.target["confidence"], rule))
    return self._chosen[rule]

  @property
  def pose(self) -> Float[Array, "b f j 3"]:
    """The pose that the teacher takes for the target's (m): the choice by frame."""
    return self.chosen("frame")

  @functools.cached_property
  def bones(self) -> Float[Array, "16"]:
    """Bone lengths (m) of the target's people: the median over all clips and frames of lengths estimated from 2D and
    the teacher's pose. The overall size is the teacher's guess.
    """
    lengths, weight = body.observed_bones(self.pose, *self.observed)
    return body.weighted_median(_gather(lengths), _gather(weight * self.target["valid"][..., None]))

  @functools.cached_property
  def up(self) -> Float[Array, "3"]:
    """Unit vector along which the target's people stand on average, in camera axes: cameras may be pitched."""
    return mean_up(self.pose, self.target["valid"])

  @functools.cached_property
  def lean(self) -> Float[Array, "b"]:
    """Angle (radians) between each clip's spine and `up`."""
    return lean(self.pose, self.up)

  @property
  def metrics(self) -> dict[str, Array]:
    """Spread of the hypotheses (mm) and their least reprojection error; empty where no lesson asked for hypotheses."""
    if "hypotheses" not in self.__dict__:
      return {}
    return {
        "teacher_spread_mm": 1000 * self.hypotheses.std(0).mean(),
        "teacher_reprojection": self.errors.min(0).mean(),
    }


def _gather(values: Array) -> Array:
  """Rows [n k] of the values [b f k] of all devices."""
  return jax.lax.all_gather(values, parallel.AXIS).reshape(-1, values.shape[-1])


def mean_bones(poses: Float[Array, "b f j 3"], valid: Float[Array, "b f"]) -> Float[Array, "16"]:
  """Mean bone lengths (m) of poses in valid frames, over the clips of all devices."""
  sums = (skeleton.bone_lengths(poses) * valid[..., None]).sum((0, 1)), valid.sum()
  total, weight = jax.lax.psum(sums, parallel.AXIS)
  return total / jnp.maximum(weight, 1e-6)


def mean_up(poses: Float[Array, "b f j 3"], valid: Float[Array, "b f"]) -> Float[Array, "3"]:
  """Unit vector of the mean spine over the clips of all devices, each weighted by its share of valid frames."""
  spines = placement.spine(poses) * valid.mean(-1, keepdims=True)
  total = jax.lax.psum(spines.sum(0), parallel.AXIS)
  return total / jnp.maximum(jnp.linalg.norm(total), 1e-6)


def lean(poses: Float[Array, "b f j 3"], up: Float[Array, "3"]) -> Float[Array, "b"]:
  """Angle (radians) between each clip's mean spine and `up`."""
  return jnp.arccos(jnp.clip(placement.uprightness(poses, up), -1, 1))
