"""The paper's tables on any source and target, with several seeds, and what goes beyond the paper.

    python -m experiments.tables --table=3,6,7 --seeds=3 --manual_dir=DIR --workdir=runs/tables_hdm05_wild \\
        --flagfile=experiments/presets/cmu_to_hdm05_wild.flags

A table is data (`posynda_jax/adaptation/rows.py`). One row and one seed is one adaptation, an ordinary run in
WORKDIR/rows/DIGEST, named by the digest of all that defines it. Tables share rows, and a second start goes on where
the first ended. The same command started twice at once shares the rows: on a CPU one core each (`taskset -c 0`,
`taskset -c 1`) does nearly twice the work of one process on two. WORKDIR/table_NAME.{md,json} hold mean and standard
deviation over the seeds, on the test split, with the protocol of the paper's table where the target has one.

Table 8 needs other bases, which are trained in WORKDIR/bases by the settings of --base; WORKDIR/bases.json has their
scores. Tables 1, 2 and 4 take --videopose_base.
"""

import re

from absl import flags

from posynda_jax.adaptation import recipes, rows, table_job, tables
from posynda_jax.adaptation.task import Job
from posynda_jax.evaluation import scoring
from posynda_jax.runtime import files, processes

from . import common

TABLES = rows.make_tables()
CHOSEN = flags.DEFINE_list("table", ["3"], f"Tables to make, of {', '.join(TABLES)}; all: the paper's eight.")
SEEDS = flags.DEFINE_integer("seeds", 1, "Adaptations of each row, with seeds from --seed on.", lower_bound=1)
ONLY = flags.DEFINE_string("only", "", "Regular expression: only rows whose names it finds are run.")
TRAIN = flags.DEFINE_bool("train", True, "Train what has not been run; --notrain makes tables of what has been.")
VIDEOPOSE = flags.DEFINE_string("videopose_base", None, "Base of the VideoPose rows.")
SOURCE = flags.DEFINE_string("source", None, "Labelled source, dataset/rig or dataset/config.")
SPLIT = flags.DEFINE_string("split", "train", "Split of the source.")
TARGET = flags.DEFINE_string("target", "synthetic_motion/target_gt", "Target, dataset/config.")
TARGET_SPLIT = flags.DEFINE_string("target_split", "train", "Split adapted on.")
TEST_SPLIT = flags.DEFINE_string("test_split", "test", "Split of the target that is scored.")
UPDATES = flags.DEFINE_integer("updates", rows.Budget.updates, "Updates of the rows' adapters.", lower_bound=1)
CLIPS = flags.DEFINE_integer("clips", rows.Budget.clips, "Clips an update, of source and target each.", lower_bound=1)
RATE = flags.DEFINE_float("adapt_rate", rows.Budget.rate, "Adam rate of the rows' adapters.")
DECAY = flags.DEFINE_enum("adapt_decay", rows.Budget.decay, recipes.DECAYS, "Schedule of the rate.")
flags.adopt_module_key_flags(common)


def choose_rows(made: dict[str, rows.Table], names: list[str], only: str) -> dict[str, list[rows.Row]]:
  """Rows by table whose names the regular expression finds. Raises ValueError where there is none."""
  try:
    chosen = {name: [row for row in made[name].rows if re.search(only, row.name)] for name in names}
  except re.error as error:
    raise ValueError(f"--only={only} is no regular expression: {error}") from error
  for name, found in chosen.items():
    if not found:
      known = ", ".join(row.name for row in made[name].rows)
      raise ValueError(f"--only={only} finds no row of table {name}, which has {known}")
  return chosen


def main() -> None:
  names = [name for chosen in CHOSEN.value for name in (rows.PAPER_TABLES if chosen == "all" else [chosen])]
  if unknown := [name for name in names if name not in TABLES]:
    raise ValueError(f"tables {', '.join(unknown)} are unknown; choose of {', '.join(TABLES)}, or all")
  made = rows.make_tables(rows.Budget(CLIPS.value, UPDATES.value, RATE.value, DECAY.value))
  chosen = choose_rows(made, names, ONLY.value)
  workdir = common.need_workdir()
  if SOURCE.value is None:
    raise ValueError("--source is not given: name the labelled source; the source-free row does without it by itself")
  common.check_batch(CLIPS.value, "clips")
  common.print_devices()
  job = Job(
      recipes.get("posynda"), TARGET.value, common.BASE.value, SOURCE.value, SPLIT.value, TARGET_SPLIT.value,
      TEST_SPLIT.value, workdir=workdir, folders=common.folders(), saving=common.saving(),
      sampling=scoring.SamplingConfig(hypothesis_chunk=common.HYPOTHESIS_CHUNK.value),
  )
  bench = table_job.Bench(job, VIDEOPOSE.value, TRAIN.value)
  bench.folder.mkdir(parents=True, exist_ok=True)
  is_papers_pair = SOURCE.value.startswith("human36m") and TARGET.value.startswith("mpi_inf_3dhp")
  for name, its_rows in chosen.items():
    due = []
    for row in its_rows:
      if row.base == rows.VIDEOPOSE and VIDEOPOSE.value is None:
        print(f"{row.name}: left out, because --videopose_base is not given", flush=True)
      else:
        due += [(row, common.SEED.value + number) for number in range(SEEDS.value if row.recipe else 1)]
    results = table_job.run_rows(bench, name, due)
    if not results:
      raise ValueError(
          f"--notrain finds no row of table {name} in {workdir}: give the --workdir that the rows were run in")
    table = tables.summarise(name, made[name], results, is_papers_pair)
    if processes.is_main():
      tables.save(bench.folder / f"table_{name}", table)
    print(f"\n{tables.markdown(table)}", flush=True)
  if processes.is_main() and (trained := bench.trained_bases()):
    files.write_json(bench.folder / "bases.json", trained)


if __name__ == "__main__":
  common.run(main)
