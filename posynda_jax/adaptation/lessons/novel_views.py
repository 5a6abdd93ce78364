"""Novel views: the teacher's poses of target people, rotated and projected, are exact labels of the projection.

The teacher's pose may be wrong. It is projected to new 2D, and for this new 2D it is an exact label. Its motion is the
target's. (Lift, rotate, project, lift again: Chen et al., CVPR 2019, arXiv 1904.04812, there with a critic.)
"""

import dataclasses

from posynda_jax.adaptation import placement
from posynda_jax.adaptation.lessons.labelled import Labelled, Lesson, Purpose
from posynda_jax.adaptation.lessons.placed import project_placed
from posynda_jax.adaptation.teacher import Teacher, lean, mean_up
from posynda_jax.geometry import camera


@dataclasses.dataclass(frozen=True)
class NovelViews(Lesson):
  """Target people at the source body's size and the target's proportions, rotated about the vertical by a random angle,
  and about a random axis by a normal angle whose deviation is their lean.
  """

  needs_body = True
  resizes = True

  def __call__(self, keys, clips: dict, teacher: Teacher) -> Labelled:
    target, num_clips = clips["target"], len(teacher.pose)
    lengths = teacher.source_body * placement.proportions(teacher.source_body, teacher.bones)[1:]
    pose = placement.with_bones(teacher.pose, lengths)
    rays = camera.rays(target["keypoints"], target["intrinsics"])
    root = camera.solve_root(pose, rays, target["confidence"])
    up = mean_up(pose, target["valid"])
    poses = placement.orbit(keys(Purpose.ORBIT, num_clips), pose + root[..., None, :], up)
    poses = placement.tumble(keys(Purpose.TUMBLE_TARGET, num_clips), poses, lean(pose, up))
    return Labelled(*project_placed(poses, target), target["valid"])
