"""What a base's hypotheses are worth on a labelled split, for several numbers of sampling steps.

    python -m experiments.hypotheses --dataset=cmu_mocap/wild_rig_gt --manual_dir=DIR --hypotheses=20 --steps=1,2,5,10

Prints, for each K: MPJPE of one hypothesis, of the mean of H, of what reprojection (Eq. 4) and the person's bones
choose without the truth, and of the best pose and the best hypothesis of each joint, chosen by the truth; the energy
score; what the hypotheses and the doubt head leave open (sigma) and its rank correlation with the error; and how many
joints lie in the regions of 50% and 90%, along depth and across it. The temperatures, along depth and across, are the
factors on deviations with which the regions of 90% would hold 90%: `convert --temperature=ACROSS,DEPTH` applies them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from posynda_jax.adaptation import sources
from posynda_jax.data import tracks
from posynda_jax.evaluation import people, scoring, spread
from posynda_jax.geometry import metrics, skeleton
from posynda_jax.runtime.text import markdown_table

from . import common, results_file, sampling

DATASET = flags.DEFINE_string("dataset", None, "dataset/config of the labelled split.")
SPLIT = flags.DEFINE_string("split", "test", "Its split.")
STEPS = flags.DEFINE_list("steps", ["1", "2", "5", "10"], "Values of K.")
CLIPS = flags.DEFINE_integer("clips", 512, "Clips, spread over the split.", lower_bound=1)
for flag in ("run", "weights", "base", "hypotheses", "batch", "hypothesis_chunk", "data_dir", "manual_dir", "json"):
  flags.declare_key_flag(flag)
RULES = {"frame": "by reprojection", "bones": "by bones"}
COLUMNS = {
    "one": "one_mm", "mean of H": "mean_mm", **{title: f"{rule}_mm" for rule, title in RULES.items()},
    "best pose": "best_pose_mm", "best joints": "best_joint_mm", "energy": "energy_mm", "sigma": "sigma_mm",
    "rank": "rank", "50% depth": "covered_depth_50%", "90% depth": "covered_depth_90%",
    "50% across": "covered_across_50%", "90% across": "covered_across_90%",
    "temperature": "temperature_depth", "across": "temperature_across",
}


def study(weights, clips, config: scoring.SamplingConfig, num_clips: int) -> dict:
  """The measures of one sampling config over `num_clips` clips of measured people (`people.measure`)."""
  key, totals = jax.random.key(config.seed), spread.Totals()

  @jax.jit
  def measure(params, measured, clip):
    found = scoring.propose(weights.make_doubting(params), measured, clip, key, config)
    found = jnp.concatenate([skeleton.root_centre(found[..., :3]), found[..., 3:]], -1)
    root = clip["poses"][..., skeleton.ROOT, :]
    axis = root / jnp.linalg.norm(root, axis=-1, keepdims=True)
    target = skeleton.root_centre(clip["poses"])
    frames, joints = spread.measure(found, target, axis)
    for rule in RULES:
      pose = scoring.combine(found[..., :3], measured, clip, dataclasses.replace(config, select=rule))
      frames[rule] = metrics.mpjpe(skeleton.root_centre(pose), target)
    return frames, joints

  picked = np.unique(np.linspace(0, len(clips) - 1, num_clips).astype(int))
  for first in range(0, len(picked), config.batch_size):
    indices = picked[first : first + config.batch_size]
    clip = clips.take(np.resize(indices, config.batch_size))  # one compiled shape: the last batch is filled up
    valid = np.where(np.arange(config.batch_size)[:, None] < len(indices), clip["valid"], 0)
    totals.add(*measure(weights.params, weights.measured, clip), valid)
  return totals.row()


def main() -> None:
  if DATASET.value is None:
    raise ValueError("--dataset is not given: name a labelled dataset/config")
  weights, rows = sampling.load_weights(), []
  base = weights.base
  clips = sources.open_clips(
      DATASET.value, SPLIT.value, tracks.LABELLED, base.clip_fps, base.model.num_frames, common.folders())
  config = sampling.config(weights)
  observe = people.make_observer(weights.make_denoiser, config)
  clips = people.measure(observe, weights.params, weights.measured, clips, config.batch_size)
  for steps in STEPS.value:
    config = dataclasses.replace(config, sampling_steps=int(steps))
    found = study(weights, clips, config, CLIPS.value)
    rows.append({"steps": int(steps), "hypotheses": config.num_hypotheses, **found})
    print(f"K = {steps}: " + ", ".join(f"{name} {found[column]:.3g}" for name, column in COLUMNS.items()), flush=True)
  print(markdown_table(["K", *COLUMNS], [[str(row["steps"]), *(
      f"{row[column]:.1f}" if column.endswith("_mm") else f"{row[column]:.2f}" for column in COLUMNS.values())]
      for row in rows]))
  print(f"{DATASET.value}, split {SPLIT.value}, base {base.digest}, weights {weights.name}, H = "
        f"{sampling.HYPOTHESES.value}, {rows[0]['frames']:,} frames, mm", flush=True)
  results_file.write({"dataset": DATASET.value, "split": SPLIT.value, "base": base.digest, "rows": rows})


if __name__ == "__main__":
  common.run(main)
