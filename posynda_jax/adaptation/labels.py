"""What the student learns from, each set as keypoints [b f j 2], root-relative poses [b f j 3] (m) and, with a weight of its own, `valid` [b f]:

- `labelled_pairs`: F's, source clips as the target's cameras would see them (Eq. 3);
- `pseudo_label`: the teacher's answer for target clips (Eq. 4-5);
- `novel_views`: target people as the teacher sees them, from another side.

Clips are one device's share of a batch; what is said of all people (bones, usual up, who stands for whom) is said over all devices.
Random keys come from `key_for(purpose, n)`, one a clip, so that a clip's draws do not depend on the device it is on.
"""

import typing

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from posynda_jax.adaptation import synthesis
from posynda_jax.adaptation.pretrain import see
from posynda_jax.diffusion import hypotheses, process, sampler
from posynda_jax.geometry import camera, rigs, skeleton
from posynda_jax.runtime import parallel

if typing.TYPE_CHECKING:
  from posynda_jax.adaptation.adapt import AdaptConfig

# Purposes of a step's random keys.
VIEW, TEACHER, TILT, STRETCH, STUDENT, STUDENT_TARGET, GENERATOR, SIDE, STUDENT_SIDE, TUMBLE, TUMBLE_SIDE = range(11)
STUDENTS = (STUDENT, STUDENT_TARGET, STUDENT_SIDE)  # noise of the student's first, second and third set


def pseudo_label(keys: Array, denoise: sampler.Denoiser, target: dict, config: "AdaptConfig", chunk: int = 0):
  """The teacher's answer for target clips (Eq. 4-5): root-relative poses [b f j 3] and what it looked at.

  Each hypothesis gets its own solved root; the one that reprojects best is kept. `chunk` as in `sampler.propose`. Returns
  (pseudo-label, the same before it is refined, diagnostics).
  """
  steps = process.ddim_steps(process.cosine_schedule(config.diffusion_steps), config.sampling_steps)
  denoise = sampler.with_flip(denoise) if config.teacher_flip else denoise
  poses = sampler.propose(keys, denoise, target["keypoints"], steps, config.num_hypotheses, chunk)  # h b f j 3
  roots = hypotheses.solve_roots(poses, target["keypoints"], target["intrinsics"], target["confidence"])
  errors = hypotheses.reprojection_error(poses, roots, target["keypoints"], target["intrinsics"])
  if config.pseudo_label == "mean":
    pose = poses.mean(0)
  else:
    pose = hypotheses.pick(poses, hypotheses.choose(errors, target["confidence"], config.select))
  label = hypotheses.refine(pose, target["keypoints"], target["intrinsics"], target["confidence"], config.refine, config.body)
  return *jax.lax.stop_gradient((label, pose)), {"spread_mm": 1000 * poses.std(0).mean(), "reprojection": errors.min(0).mean()}


def seen_bones(target_pose, target: dict) -> Float[Array, "16"]:
  """Bone lengths of the target's people (m, by the teacher's scale): the weighted median over the clips of all devices."""
  lengths, trust = hypotheses.seen_bones(target_pose, target["keypoints"], target["intrinsics"], target["confidence"])
  of_all = lambda x: jax.lax.all_gather(x, parallel.AXIS).reshape(-1, x.shape[-1])
  return hypotheses.weighted_median(of_all(lengths), of_all(trust * target["valid"][..., None]))


def mean_bones(poses, valid: Float[Array, "b f"]) -> Float[Array, "16"]:
  """Mean bone lengths (m) of poses over the clips of all devices."""
  sums = (skeleton.bone_lengths(poses) * valid[..., None]).sum((0, 1)), valid.sum()
  total, weight = jax.lax.psum(sums, parallel.AXIS)
  return total / jnp.maximum(weight, 1e-6)


def usual_up(target_pose, target: dict) -> Float[Array, "3"]:
  """Unit vector along which the target's people stand on average, over the clips of all devices: cameras may look down on them."""
  total = jax.lax.psum((synthesis.spine(target_pose) * target["valid"].mean(-1, keepdims=True)).sum(0), parallel.AXIS)
  return total / jnp.maximum(jnp.linalg.norm(total), 1e-6)


def deal_by_uprightness(poses, valid, target_pose):
  """Source clips (poses, valid), of all devices, dealt so that the most upright go to the most upright target clips, and so on."""
  of_all = lambda x: jax.lax.all_gather(x, parallel.AXIS, tiled=True)
  order, target_order = (of_all(synthesis.uprightness(pose)).argsort() for pose in (poses, target_pose))
  first = jax.lax.axis_index(parallel.AXIS) * len(poses)
  mine = jax.lax.dynamic_slice_in_dim(order[target_order.argsort()], first, len(poses))
  return of_all(poses)[mine], of_all(valid)[mine]


def labelled_pairs(key_for, source: dict, target: dict, target_pose, bones, config: "AdaptConfig", rig: rigs.Rig | None):
  """D_aug^s, (keypoints, poses, valid): source clips as the target's cameras would see them (Eq. 3), or as they are without synthesis.

  Source clip i is placed before the camera of target clip i: both are random draws. `target_pose` is the pseudo-label of the target
  clips, which tells, where `config.looks`, how people stand before its cameras; `bones` are their `seen_bones`, for `config.proportions`.
  """
  num_clips, valid = len(source["valid"]), source["valid"]
  keypoints, poses = see(key_for(VIEW, num_clips), source, rig)
  if not config.synthesis:
    return keypoints, skeleton.root_centre(poses), valid
  if config.proportions == "target":
    poses = synthesis.resize(poses, synthesis.proportions(mean_bones(poses, valid), bones))
  if config.stretch:
    poses = jax.vmap(lambda key, pose: synthesis.stretch(key, pose, config.stretch))(key_for(STRETCH, num_clips), poses)
  if config.pair == "upright":
    poses, valid = deal_by_uprightness(poses, valid, target_pose)
  limit = jnp.deg2rad(config.tilt_deg)
  if config.tilt == "random":
    angle = jax.vmap(lambda key: jax.random.uniform(key, minval=-1.0))(key_for(TILT, num_clips)) * limit
    poses = synthesis.tilt(poses, angle)
  elif config.tilt == "teacher":
    usual = jnp.median(jax.lax.all_gather(synthesis.lean(poses), parallel.AXIS))
    poses = synthesis.tilt(poses, jnp.clip(synthesis.lean(target_pose) - usual, -limit, limit))
  elif config.tilt == "spine":
    poses = synthesis.align_spine(poses, synthesis.spine(target_pose))
  return *film(key_for(TUMBLE, num_clips), poses, target_pose, target, config), valid


def film(keys, poses, target_pose, target: dict, config: "AdaptConfig"):
  """(keypoints, root-relative poses) of absolute poses put where and as large as the target's people are before its cameras.

  With `tumble` they are turned any way first, the further the more the teacher sees the target's people (`target_pose`) lean from how they
  stand on average: one who takes the lying for the leaning would else never see anybody lie.
  """
  if config.tumble:
    cosine = synthesis.uprightness(target_pose, usual_up(target_pose, target))
    poses = synthesis.tumble(keys, poses, config.tumble * jnp.arccos(jnp.clip(cosine, -1, 1)))
  placed = synthesis.place(poses, target["keypoints"], target["intrinsics"], config.align)
  return camera.project(placed, target["intrinsics"]), skeleton.root_centre(placed)


def novel_views(key_for, pose, bones, target: dict, config: "AdaptConfig"):
  """(keypoints, poses): the target's people as the teacher sees them (`pose`, unrefined), from another side, where and as large as they were.

  The teacher's poses, made as large as the target's people are, may be wrong for the 2D they were read from; for what the camera
  would see of them once they are turned they are exact labels, of motion that the source need not have. (Lifting what was lifted,
  turned and projected: Chen et al., CVPR 2019, arXiv 1904.04812, there without F and against a critic.)
  """
  body = jnp.asarray(config.body)
  if config.proportions == "target":
    body = body * synthesis.proportions(body, bones)[1:]
  pose = synthesis.with_bones(pose, body)
  root = camera.solve_root(pose, camera.rays(target["keypoints"], target["intrinsics"]), target["confidence"])
  turned = jax.lax.stop_gradient(synthesis.orbit(key_for(SIDE, len(pose)), pose + root[..., None, :], usual_up(pose, target)))
  return film(key_for(TUMBLE_SIDE, len(pose)), turned, pose, target, config)
