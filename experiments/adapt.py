"""Adapts a base to an unlabelled target domain (Algorithm 1) and scores it before and after.

    python -m experiments.adapt                                   # the embedded pair: four minutes on two cores
    python -m experiments.adapt --recipe=novel --base=cmu_h36m --manual_dir=DIR --workdir=runs/hdm05_wild \\
        --source=cmu_mocap/h36m_rig --target=hdm05_mocap/wild_rig_gt
    python -m experiments.adapt --recipe=free --target=keypoints:openpose_json/ --resolution=1920x1080 --fps=30 \\
        --workdir=runs/my_video

Without flags it runs the preset `embedded.flags`: it trains a compact base on synthetic motion if the work directory
has none yet, then adapts it to a target with other bodies, motions and cameras. A recipe names lessons and their
training settings (`posynda_jax/adaptation/recipes.py`); the flags below replace single settings. Without --source the
adaptation is source-free. A video's keypoints, `keypoints:FILE`, have no ground truth, so their scores are
reprojection errors.
"""

import dataclasses
import sys

from absl import flags

from posynda_jax.adaptation import adapters, base_job, job, recipes, sweep_job
from posynda_jax.evaluation import results, scoring
from posynda_jax.geometry import body

from . import common, console, own_keypoints

RECIPE = flags.DEFINE_enum("recipe", "posynda", list(recipes.RECIPES), "Lessons and their training settings.")
SOURCE = flags.DEFINE_string(
    "source", None, "Labelled source, dataset/rig, dataset/rig+rig or dataset/config; without it, source-free.")
SPLIT = flags.DEFINE_string("split", "train", "Split of the source.")
TARGET = flags.DEFINE_string(
    "target", "synthetic_motion/target_gt", "Target: dataset/config, keypoints:FILE or video:FILE.")
TARGET_SPLIT = flags.DEFINE_string(
    "target_split", "train", "Split adapted on; only --ceiling and --recipe=ceiling read its 3D.")
TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Split of the target that is scored.")
CEILING = flags.DEFINE_bool("ceiling", False, "Also train the same adapter with target labels: its bound.")
UPDATES = flags.DEFINE_integer("updates", None, "Updates of the adapter.", lower_bound=1)
CLIPS = flags.DEFINE_integer("clips", None, "Clips an update, of the source and of the target each.", lower_bound=1)
RATE = flags.DEFINE_float("adapt_rate", None, "Adam rate of the adapter.")
DECAY = flags.DEFINE_enum("adapt_decay", None, recipes.DECAYS, "Schedule of the rate.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", None, "H, hypotheses of the teacher.", lower_bound=1)
TUNE = flags.DEFINE_enum("tune", None, adapters.TUNES, "What is trained: LoRA, or base parameters by rule.")
RANK = flags.DEFINE_integer("rank", None, "LoRA rank r.", lower_bound=1)
SCALE = flags.DEFINE_float("lora_scale", None, "LoRA scale s.")
RULE = flags.DEFINE_string("lora_rule", None, "Regular expression on the paths of modules that LoRA adapts.")
GUARD = flags.DEFINE_bool(
    "guard", True, "Keep only the share of the adapter that makes target poses more consistent; needs no label.")
BIAS = flags.DEFINE_bool("bias", None, "Train the bias by joint (Eq. 11).")
TEST_REFINE = flags.DEFINE_enum(
    "test_refine", "none", body.REFINEMENTS, "Correction of scored poses by their own 2D; `body` fits them to the body "
    "that the adapter was trained on.")
FLIP = flags.DEFINE_bool("flip", False, "Average each scoring step with its mirror image.")
REMAT = flags.DEFINE_bool("remat", True, "Compute MixSTE's activations again in the backward pass, to save memory.")
CLIPS_AT_ONCE = flags.DEFINE_integer(
    "clips_at_once", 0, "Student's clips of an update whose gradient is computed at once, to save memory; 0 is all.",
    lower_bound=0)
SWEEP = flags.DEFINE_string(
    "sweep", None, "Several adaptations at once: `flag=value,value;flag=value` for all combinations, or a JSON file "
    "with a list of members, each an object of flags.")
AT_ONCE = flags.DEFINE_integer(
    "sweep_at_once", None, "Members computed together; default: all on an accelerator, 1 on a CPU.", lower_bound=1)
for module in (common, own_keypoints):
  flags.adopt_module_key_flags(module)


def recipe_from_flags() -> recipes.Recipe:
  """The recipe of --recipe with the settings that other flags replace."""
  replaced = {"updates": UPDATES, "clips": CLIPS, "rate": RATE, "decay": DECAY, "num_hypotheses": HYPOTHESES}
  of_adapter = {"tune": TUNE, "rank": RANK, "scale": SCALE, "rule": RULE, "bias": BIAS}
  recipe = recipes.get(RECIPE.value, **common.given(replaced))
  return dataclasses.replace(recipe, adapter=dataclasses.replace(recipe.adapter, **common.given(of_adapter)))


def job_from_flags() -> job.Job:
  """The job that the flags describe; trains its base first for --base=plan:NAME."""
  base = common.BASE.value
  if base.startswith("plan:"):
    base = f"{common.need_workdir()}/base"
    base_job.train_base(base_job.get(common.BASE.value.removeprefix("plan:")), base, common.folders(), common.saving())
  return job.Job(
      recipe=recipe_from_flags(), target=own_keypoints.load_target(TARGET.value), base=base, source=SOURCE.value,
      source_split=SPLIT.value, target_split=TARGET_SPLIT.value, test_split=TEST_SPLIT.value, ceiling=CEILING.value,
      guard=GUARD.value, seed=common.SEED.value, remat=REMAT.value, clips_at_once=CLIPS_AT_ONCE.value,
      workdir=common.need_workdir(), folders=common.folders(),
      sampling=scoring.SamplingConfig(
          flip=FLIP.value, refine=TEST_REFINE.value, hypothesis_chunk=common.HYPOTHESIS_CHUNK.value),
      saving=common.saving(),
  )


def main() -> None:
  common.check_batch(recipe_from_flags().clips, "clips")
  common.need_workdir()
  common.print_devices()
  described = job_from_flags()
  if SWEEP.value:
    print(f"\n{sweep_job.markdown(sweep_job.run(described, sweep_job.read_members(SWEEP.value), AT_ONCE.value))}\n")
    print(f"Every member is a run in {described.workdir}/NAME; sweep.md and sweep.json compare them", flush=True)
    return
  result = job.run(described)
  print(f"\n{results.result_text(result.scores, result.protocol)}\n")
  if not described.is_labelled:
    print("The target has no ground truth: a lower reprojection error does not show that poses are nearer the truth.")
  print(f"The run is in {result.folder}: metrics.json, figures/, events/ (TensorBoard), adapted/ (the adapter)")


if __name__ == "__main__":
  if len(sys.argv) == 1:
    preset = console.PRESETS / "embedded.flags"
    print(f"No flags given: --flagfile={preset}", flush=True)
    sys.argv.append(f"--flagfile={preset}")
  common.run(main)
