"""What each part of a base's training is worth: the plan trained anew without it, and scored on several targets.

    python -m experiments.ablation --plan=base --width=64 --depth=2 --heads=2 --num_frames=3 --batch=128 --steps=1200 \\
        --muon_rate=0.02 --seed=0 --manual_dir=DIR --workdir=runs/ablation_0

The flags of `pretrain` describe the whole plan; a row leaves one of PARTS out. Each row is a run of its own in
--workdir, resumed after a stop and read where it is finished. Nothing is adapted.
"""

import dataclasses

from absl import flags

from posynda_jax.adaptation import base_job
from posynda_jax.runtime import files
from posynda_jax.runtime.text import markdown_table

from . import common, pretrain

TARGETS = flags.DEFINE_list(
    "targets", [f"{name}_mocap/wild_rig_gt" for name in ("cmu", "hdm05", "bandai_namco", "accad")],
    "dataset/config of labelled targets, which are scored on the plan's --eval_split.")
JSON = flags.DEFINE_string("json", None, "Write the rows to this file.")
flags.adopt_module_key_flags(pretrain)
PARTS = {  # part -> the fields of `PretrainConfig` that leave it out
    "Muon": {"muon_rate": 0.0}, "turned people": {"turned": 0.0}, "mixed people": {"mixed": 0.0},
    "resized people": {"resized": 0.0}, "other proportions": {"reproportioned": 0.0}, "offset joints": {"offset": 0.0},
    "hidden joints": {"hidden": 0.0}, "a detector's errors": {"detected_share": 0.0},
    "the canonical camera": {"hidden": 0.0},  # without it a denoiser has no input for hidden joints
}


def rows_of(plan: base_job.Plan) -> dict[str, base_job.Plan]:
  """Plans by row: the whole plan, and it without each part that it has."""
  rows = {"as it is": plan}
  for part, fields in PARTS.items():
    has_camera = plan.model.get("inputs", 2) != 2
    model = plan.model | {"inputs": 2} if part == "the canonical camera" and has_camera else plan.model
    changed = dataclasses.replace(plan, model=model, pretrain=dataclasses.replace(plan.pretrain, **fields))
    if changed not in rows.values():
      rows[f"without {part}"] = changed
  return rows


def main() -> None:
  folder, plan, found = common.need_workdir(), pretrain.plan_from_flags(), {}
  common.print_devices()
  for row, its in rows_of(plan).items():
    base = base_job.train_base(its, f"{folder}/{row.replace(' ', '_')}", common.folders(), common.saving())
    where = plan.eval_split, common.folders()
    found[row] = {target: base_job.score_base(base, target, *where)[0] for target in TARGETS.value}
    print(f"{row}: " + ", ".join(f"{target} {its['mpjpe_mm']:.1f}" for target, its in found[row].items()), flush=True)
  print(markdown_table(["training", *TARGETS.value], [
      [row, *(f"{its['mpjpe_mm']:.1f} ({its['p_mpjpe_mm']:.1f})" for its in scores.values())]
      for row, scores in found.items()]))
  if JSON.value:
    files.write_json(JSON.value, {"plan": base_job.describe(plan), "rows": found})


if __name__ == "__main__":
  common.run(main)
