"""What each part of a base's training is worth: the plan trained anew without it, and scored on several targets.

    python -m experiments.ablation --plan=base --width=64 --depth=2 --heads=2 --num_frames=3 --batch=128 --steps=1200 \\
        --muon_rate=0.02 --seed=0 --manual_dir=DIR --workdir=runs/ablation_0

The flags of `pretrain` describe the whole plan; a row leaves one of `base_job.PARTS` out. Each row is a run of its own
in --workdir, resumed after a stop and read where it is finished. Nothing is adapted. With --rows="as it is", several
numbers of --steps, each in a --workdir of its own, give a learning curve: the file has the seconds of each training.
"""

from absl import flags

from posynda_jax.adaptation import base_job
from posynda_jax.evaluation import results
from posynda_jax.runtime import runs
from posynda_jax.runtime.text import markdown_table

from . import common, pretrain, results_file

TARGETS = flags.DEFINE_list(
    "targets", [f"{name}_mocap/wild_rig_gt" for name in ("cmu", "hdm05", "bandai_namco", "accad")],
    "dataset/config of labelled targets, which are scored on the plan's --eval_split.")
ROWS = flags.DEFINE_list("rows", [], "Names of the rows to train; all where none is given.")
flags.declare_key_flag("json")
flags.adopt_module_key_flags(pretrain)


def main() -> None:
  folder, plan, found = common.need_workdir(), pretrain.plan_from_flags(), {}
  common.print_devices()
  rows, seconds = base_job.ablations(plan), {}
  if unknown := sorted(set(ROWS.value) - {*rows}):
    raise ValueError(f"--rows names {', '.join(unknown)}, which this plan lacks; it has {', '.join(rows)}")
  for row in ROWS.value or rows:
    trained = f"{folder}/{row.replace(' ', '_')}"
    base = base_job.train_base(rows[row], trained, common.folders(), common.saving())
    where = plan.eval_split, common.folders()
    found[row] = {target: base_job.score_base(base, target, *where)[0] for target in TARGETS.value}
    seconds[row] = runs.read_metrics(trained)["seconds"]
    print(f"{row}: " + ", ".join(f"{target} {its['mpjpe_mm']:.1f}" for target, its in found[row].items()), flush=True)
  print(markdown_table(["training", *TARGETS.value], [
      [row, *map(results.both, scores.values())] for row, scores in found.items()]))
  results_file.write({"plan": base_job.describe(plan), "rows": found, "seconds": seconds})


if __name__ == "__main__":
  common.run(main)
