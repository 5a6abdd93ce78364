"""Adaptation to one video alone, as people have it: a few seconds of one person from one camera, scored on themselves.

    python -m experiments.one_video --dataset=hdm05_mocap/wild_rig_gt --split=test --videos=6 --updates=100 --clips=16

Each record of the split that is long enough is a video. A base is adapted to its 2D alone, without the guard, which
refuses targets of so few clips, and scored on the same frames by the truth, which training does not see: a video is
lifted better or worse than it was.
"""

import numpy as np
from absl import flags

from posynda_jax.adaptation import bases, job, recipes, sources
from posynda_jax.evaluation import results
from posynda_jax.runtime.text import markdown_table

from . import common, results_file

DATASET = flags.DEFINE_string("dataset", "hdm05_mocap/wild_rig_gt", "dataset/config of the videos.")
SPLIT = flags.DEFINE_string("split", "test", "A published split of it.")
VIDEOS = flags.DEFINE_integer("videos", 12, "Videos, spread over the split.", lower_bound=1)
LEAST = flags.DEFINE_integer("least_frames", 300, "Frames that a video has at least.", lower_bound=1)
RECIPE = flags.DEFINE_enum("recipe", "free", list(recipes.RECIPES), "A recipe without a source.")
UPDATES = flags.DEFINE_integer("updates", None, "Updates of the adapter.", lower_bound=1)
CLIPS = flags.DEFINE_integer("clips", None, "Clips an update.", lower_bound=1)
RATE = flags.DEFINE_float("adapt_rate", None, "Adam rate of the adapter.")
flags.declare_key_flag("json")
ROWS = ("source_only", "adapted")


def choose_videos() -> list[int]:
  """Numbers of records that are long enough, spread evenly. Raises ValueError where none is."""
  records = sources.load_records(DATASET.value, SPLIT.value, common.folders())
  long = [number for number in range(len(records)) if len(records[number]["valid"]) >= LEAST.value]
  if not long:
    raise ValueError(f"no record of {DATASET.value} {SPLIT.value} has {LEAST.value} frames: lower --least_frames")
  return [long[i] for i in dict.fromkeys(np.linspace(0, len(long) - 1, VIDEOS.value).astype(int))]


def adapt_to(number: int, base: bases.Base, recipe: recipes.Recipe) -> dict:
  """The scores of one video as it was, and adapted."""
  split = f"{SPLIT.value}[{number}:{number + 1}]"
  scores = job.run(job.Job(
      recipe, DATASET.value, base, target_split=split, test_split=split, guard=False, seed=common.SEED.value,
      folders=common.folders()), report=lambda line: None).scores
  return {"video": number, "seconds": scores["adapted"]["seconds"], **{name: scores[name] for name in ROWS}}


def main() -> None:
  recipe = recipes.get(RECIPE.value, **common.given({"updates": UPDATES, "clips": CLIPS, "rate": RATE}))
  base, rows, cells = bases.load(common.BASE.value), [], []
  for number in choose_videos():
    rows.append(row := adapt_to(number, base, recipe))
    scores = [results.both(row[name]) for name in ROWS]
    cells.append([str(number), f"{row['adapted']['frames']:,}", *scores, f"{row['seconds']:.0f}"])
    print(f"video {number}: {scores[0]} -> {scores[1]}", flush=True)
  print(markdown_table(["video", "frames", "as it was", "adapted", "s"], cells))
  results_file.write({"dataset": DATASET.value, "split": SPLIT.value, "base": base.digest,
                      "recipe": recipes.describe(recipe), "seed": common.SEED.value, "rows": rows})


if __name__ == "__main__":
  common.run(main)
