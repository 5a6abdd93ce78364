"""F (Eq. 3) as lessons: source clips placed before the target cameras give exact labels there."""

import dataclasses

import jax
from jaxtyping import Array, Float

from posynda_jax.adaptation import placement
from posynda_jax.adaptation.lessons.labelled import Labelled, Lesson, Purpose
from posynda_jax.adaptation.teacher import Teacher, mean_bones
from posynda_jax.geometry import camera, skeleton
from posynda_jax.runtime import parallel


def project_placed(poses: Float[Array, "b f j 3"], target: dict) -> tuple[Array, Array]:
  """(keypoints, root-relative poses) of absolute poses placed with the size and position of the target clips."""
  placed = placement.keep_in_front(placement.place(poses, target["keypoints"], target["intrinsics"]))
  return camera.project(placed, target["intrinsics"]), skeleton.root_centre(placed)


@dataclasses.dataclass(frozen=True)
class Synthesis(Lesson):
  """F as the paper has it. Source clip i is placed before the camera of target clip i; both are random draws."""

  needs_source = True

  def __call__(self, keys, clips: dict, teacher: Teacher) -> Labelled:
    source = clips["source"]
    return Labelled(*project_placed(source["poses"], clips["target"]), source["valid"])


@dataclasses.dataclass(frozen=True)
class AsSeen(Lesson):
  """F that also uses the teacher's poses of the target.

  Source bodies take the bone-length ratios that the target's 2D shows. The more upright source clips go to the more
  upright target clips. A source clip is then rotated so that its spine points as the teacher's pose does. `tumble`:
  clips are also rotated about random axes, by normal angles of this deviation times the target clip's lean.
  """

  tumble: float = 0.0
  needs_source = True
  resizes = True

  def __call__(self, keys, clips: dict, teacher: Teacher) -> Labelled:
    poses, valid = clips["source"]["poses"], clips["source"]["valid"]
    poses = placement.resize(poses, placement.proportions(mean_bones(poses, valid), teacher.bones))
    poses, valid = pair_by_uprightness(poses, valid, teacher.pose)
    poses = placement.align_spine(poses, placement.spine(teacher.pose))
    if self.tumble:
      poses = placement.tumble(keys(Purpose.TUMBLE_SOURCE, len(poses)), poses, self.tumble * teacher.lean)
    return Labelled(*project_placed(poses, clips["target"]), valid)


def pair_by_uprightness(poses, valid, target_pose) -> tuple[Array, Array]:
  """Source (poses, valid) of all devices, ordered so that the n-th most upright meets the n-th most upright target."""
  everyone, target_everyone = (
      jax.lax.all_gather(placement.uprightness(pose), parallel.AXIS, tiled=True) for pose in (poses, target_pose)
  )
  source_of = everyone.argsort()[target_everyone.argsort().argsort()]
  first = jax.lax.axis_index(parallel.AXIS) * len(poses)
  mine = jax.lax.dynamic_slice_in_dim(source_of, first, len(poses))
  return tuple(jax.lax.all_gather(x, parallel.AXIS, tiled=True)[mine] for x in (poses, valid))
