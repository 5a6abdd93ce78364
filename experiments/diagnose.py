"""Where a gap comes from, and what choosing among hypotheses could give: evaluation only, nothing is trained.

    python -m experiments.diagnose --base=runs/base_cmu --manual_dir=DIR --datasets=cmu_mocap,hdm05_mocap --out=gap.json
    python -m experiments.diagnose --base=runs/base_cmu --manual_dir=DIR --datasets=hdm05_mocap --rigs=wild_rig --weights=RUN/adapted

Gap: the test motion of every dataset is seen by every rig, once with its own bodies and once with every bone as long as the
mean of the source's training subjects (directions kept, so that the motion is what remains). Under one rig, own minus
mean-body error is the body's part and mean-body error minus the source's own test error the motion's; between rigs, the camera's.

Hypotheses: for H samples, their spread, and the error of one sample, of the mean, of the choice by reprojection, of the best
choice there is (which needs the truth), and of the mean moved onto the rays of the keypoints.
"""

import functools

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from experiments import common
from posynda_jax import adapt, diffusion, evaluate, hypotheses, metrics, pipeline, runs, sampler, skeleton
from posynda_jax.datasets.mocap import views

BASE = flags.DEFINE_string("base", None, "Folder of a pretraining run.")
DATASETS = flags.DEFINE_list("datasets", ["cmu_mocap", "hdm05_mocap", "bandai_namco_mocap"], "Datasets with a world config.")
RIGS = flags.DEFINE_list("rigs", ["h36m_rig", "dhp_rig", "wild_rig"], "Rigs that see them.")
WEIGHTS_OF = flags.DEFINE_string("weights", None, "RUN/adapted or RUN/ceiling: an adapter on the base, else the bare base.")
NUM = flags.DEFINE_integer("num_hypotheses", 3, "H of the hypothesis study.")
OUT = flags.DEFINE_string("out", None, "JSON file for the results.")


def mean_body(records) -> np.ndarray:
  """Mean bone lengths [16] (m) over the subjects of world records."""
  by_subject: dict[str, list] = {}
  for record in records:
    by_subject.setdefault(record["subject"], []).append(np.asarray(skeleton.bone_lengths(record["poses_world_m"])).mean(0))
  return np.mean([np.mean(lengths, 0) for lengths in by_subject.values()], 0)


def with_body(motion: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  """The motion [f 17 3] performed with the given bone lengths, ankles as high above the floor as they were."""
  joints = [motion[:, skeleton.ROOT]]
  for child, parent in enumerate(skeleton.PARENTS[1:], start=1):
    bone = motion[:, child] - motion[:, parent]
    joints.append(joints[parent] + bone * (lengths[child - 1] / np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-6)))
  moved = np.stack(joints, 1)
  lift = motion[:, [3, 6], 1].min(-1) - moved[:, [3, 6], 1].min(-1)
  return (moved + lift[:, None, None] * np.array([0, 1, 0])).astype(np.float32)


def see(records, dataset: str, rig: str, body: np.ndarray | None) -> list[dict]:
  """View records of world records under a rig: the views of the dataset's own rig config."""
  seen = []
  for record in records:
    max_frames = int(views.SHOT_SECONDS * record["fps"])
    motion = record["poses_world_m"] if body is None else with_body(record["poses_world_m"], body)
    for shot, frames in enumerate(views.shots(len(motion), max_frames)):
      one_shot = views.see(
          motion[frames], rig, detected=False, max_frames=max_frames, dataset=dataset, sequence=record["sequence"], shot=shot
      )
      seen += [{**fields, "fps": record["fps"], "sequence": record["sequence"]} for _, fields in one_shot]
  return seen


def study_hypotheses(base: common.Base, weights, clips: pipeline.ClipSource, scale: float, num: int) -> dict[str, float]:
  """Mean errors (mm) over valid frames of what could be made of `num` hypotheses, and their spread."""
  steps = diffusion.ddim_steps(diffusion.cosine_schedule(base.config["pretrain"]["diffusion_steps"]), 1)
  key = jax.random.key(2023)

  @jax.jit
  def study(weights, clip):
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(clip["index"])
    poses = sampler.propose(keys, adapt.make_denoiser(base.model, *weights, scale), clip["keypoints"], steps, num)
    poses, truth = skeleton.root_centre(poses), skeleton.root_centre(clip["poses"])
    seen = (clip["keypoints"], clip["intrinsics"], clip["confidence"])
    roots = hypotheses.solve_roots(poses, *seen)
    errors_2d = hypotheses.reprojection_error(poses, roots, *seen[:2])
    choice = lambda by: hypotheses.pick(poses, hypotheses.choose(errors_2d, clip["confidence"], by))
    mean = poses.mean(0)
    root_error = jnp.linalg.norm(hypotheses.solve_roots(mean[None], *seen)[0] - clip["poses"][..., 0, :], axis=-1)
    made = {"one": poses[0], "mean": mean, "chosen_frame": choice("frame"), "chosen_joint": choice("joint"),
            "mean_on_rays": hypotheses.onto_rays(mean, *seen)}
    return {name: metrics.mpjpe(pose, truth) for name, pose in made.items()} | {
        "best_of_frame": metrics.mpjpe(poses, truth[None]).min(0),
        "spread": jnp.linalg.norm(poses - mean, axis=-1).mean((0, -1)),
        "mean_depth_error": jnp.abs(mean - truth)[..., 2].mean(-1),
        "mean_image_plane_error": jnp.linalg.norm((mean - truth)[..., :2], axis=-1).mean(-1),
        "root_error": root_error,
    }

  totals, frames = {}, 0.0
  for clip in pipeline.in_order(clips, 64):
    for name, value in study(weights, clip).items():
      totals[name] = totals.get(name, 0.0) + float((np.asarray(value, np.float64) * clip["valid"]).sum())
    frames += float(clip["valid"].sum())
  return {f"{name}_mm": 1000 * total / frames for name, total in totals.items()}


def main() -> None:
  if BASE.value is None:
    raise ValueError("--base is not given: name the folder of a pretraining run")
  base = common.load_base(BASE.value)
  adapter, scale = None, 1.0
  if WEIGHTS_OF.value:
    folder, _, which = WEIGHTS_OF.value.rpartition("/")
    base, adapter, scale = common.load_weights(folder, which)
  weights, clip_fps = (base.params, adapter), base.config["clip_fps"]
  config = evaluate.EvaluateConfig()
  score = evaluate.make_scorer(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config)
  source = base.config["source"].partition("/")[0]
  body = mean_body(common.load_records(f"{source}/world", "train"))
  rows = []
  for dataset in DATASETS.value:
    records = common.load_records(f"{dataset}/world", "test")
    for rig in RIGS.value:
      for name, lengths in (("own", None), ("source mean", body)):
        tracks = pipeline.make_tracks(see(records, dataset, rig, lengths), pipeline.LABELLED, clip_fps)
        clips = pipeline.ClipSource(tracks, base.model.num_frames)
        row = {"dataset": dataset, "rig": rig, "body": name, **evaluate.evaluate(score, weights, clips, config.batch_size)}
        if lengths is None:
          row["hypotheses"] = study_hypotheses(base, weights, clips, scale, NUM.value)
        rows.append(row)
        print(f"{dataset:20}{rig:10} body {name:12} MPJPE {row['mpjpe_mm']:6.1f}  P-MPJPE {row['p_mpjpe_mm']:6.1f}  "
              f"{row['frames']:,} frames", flush=True)
        if "hypotheses" in row:
          print("    " + ", ".join(f"{k.removesuffix('_mm')} {v:.1f}" for k, v in row["hypotheses"].items()), flush=True)
  protocol = {"weights": WEIGHTS_OF.value or "base", "base": base.digest, "split": "test", "keypoints_2d": "gt", "hypotheses": NUM.value,
              "sampling_steps": 1, "joints": "17 (H36M order, root included)", "clip_fps": clip_fps, "seed": config.seed}
  if OUT.value:
    runs.write_json(OUT.value, {"cells": rows, "protocol": protocol})


if __name__ == "__main__":
  common.run(main)
