"""How many faults of 2D input the lifter notices, and how many good clips it doubts.

    python -m experiments.trust --dataset=cmu_mocap/wild_rig_detected,hdm05_mocap/wild_rig_detected --manual_dir=DIR

Takes clips of a test split as a detector's file would hold them, plants a fault of FAULTS in each, reads and lifts it,
and prints a row for each fault: clips that were refused, clips with an untrusted frame, clips that were mended so that
their MPJPE stays within a tenth of the clean clip's, clips of any of these kinds, and the MPJPE of those that were
lifted. The row "none" is of the clips as they are, of which none should be refused or untrusted.
"""

import collections

import numpy as np
from absl import flags

from posynda_jax import lifter
from posynda_jax.adaptation import sources
from posynda_jax.geometry import skeleton
from posynda_jax.interop.keypoints import recordings
from posynda_jax.runtime.text import markdown_table

from . import common, own_keypoints, results_file

DATASET = flags.DEFINE_list("dataset", None, "dataset/config of one or more test splits.")
SPLIT = flags.DEFINE_string("split", "test", "Their split.")
CLIPS = flags.DEFINE_integer("clips", 100, "Clips of each, spread over the split.", lower_bound=2)
ALIKE = 1.1  # times the clean clip's error, of a fault that did no harm
for flag in ("base", "data_dir", "manual_dir", "seed", "json"):
  flags.declare_key_flag(flag)


def _sides(points, other, options, rng):
  first = len(points) // 3
  points = points.copy()
  points[first : 2 * first] = np.asarray(skeleton.flip(points[first : 2 * first])) * [-1, 1, 1]
  return points, options


def _rotated(points, other, options, rng):
  width, height = options["resolution"]
  turned = np.concatenate([height - points[..., 1:2], points[..., :1], points[..., 2:]], -1)
  fx, fy, cx, cy = options["intrinsics"][:4]
  return turned, options | {"resolution": (height, width), "intrinsics": (fy, fx, height - cy, cx)}


def _legs(points, other, options, rng):
  points = points.copy()
  points[:, 1:7, 2] = 0
  return points, options


def _joined(points, other, options, rng):
  half = len(points) // 2
  return np.concatenate([points[:half], other[half : 2 * half]]), options


FAULTS = {  # name -> (points [T 17 3] px and score, points of another clip, options, rng) -> (points, options)
    "none": lambda points, other, options, rng: (points, options),
    "sides exchanged in a third": _sides,
    "video on its side": _rotated,
    "legs not seen": _legs,
    "another person's second half": _joined,
    "frames shuffled": lambda points, other, options, rng: (rng.permutation(points), options),
    "resolution of half the size": lambda points, other, options, rng: (
        points, options | {"resolution": tuple(x / 2 for x in options["resolution"])}),
    "resolution exchanged": lambda points, other, options, rng: (
        points, options | {"resolution": options["resolution"][::-1]}),
    "intrinsics in millimetres": lambda points, other, options, rng: (
        points, options | {"intrinsics": (26.0, 26.0, *options["intrinsics"][2:4])}),
    "intrinsics of half the size": lambda points, other, options, rng: (
        points, options | {"intrinsics": tuple(x / 2 for x in options["intrinsics"][:4])}),
}


def study(lift: lifter.Lifter, records: list[dict], rng: np.random.Generator) -> list[dict]:
  """A row for each fault over the records, with the reasons for doubt in those as they are."""
  rows, clean = [], {}  # clip -> its error as it is
  for name, plant in FAULTS.items():
    counts, errors, doubts = collections.Counter(clips=len(records)), [], []
    for i, record in enumerate(records):
      (points, options), (other, _) = (own_keypoints.as_detected(one) for one in (record, records[i - 1]))
      try:
        planted, told = plant(points, other, options, rng)
        found = recordings.from_array(planted, recordings.Options(**told))
      except ValueError:
        counts["refused"] += 1
        counts["caught"] += 1
        continue
      lifted, error = lift.lift_recording(found), None
      if len(lifted.pose) == len(record["poses_camera_m"]):
        truth = record["poses_camera_m"] - record["poses_camera_m"][:, :1]
        error = 1000 * np.linalg.norm(lifted.pose - truth, axis=-1).mean()
        errors.append(error)
      if name == "none":
        clean[i] = error
        doubts += [f"{record['sequence']}, {record['camera']}: {why}" for _, _, why in lifted.trust.reasons]
      right = error is not None and i in clean and error < ALIKE * clean[i]
      counts["untrusted"] += not lifted.trust.frames.all()
      counts["mended"] += found.report["exchanged_frames"] > 0 and right
      counts["caught"] += right or not lifted.trust.frames.all()
    counts = {key: int(value) for key, value in counts.items()}
    rows.append({"fault": name, **counts, "mpjpe_mm": float(np.mean(errors)) if errors else None, "doubts": doubts})
  return rows


def main() -> None:
  if not DATASET.value:
    raise ValueError("--dataset is not given: name the test splits, as in cmu_mocap/wild_rig_detected")
  lift, found = lifter.load(common.BASE.value), {}
  for dataset in DATASET.value:
    records = list(sources.load_records(dataset, SPLIT.value, common.folders()))
    records = [one for one in records if len(one["valid"]) >= 60 and own_keypoints.is_inside(one)]
    picked = [records[i] for i in np.linspace(0, len(records) - 1, min(CLIPS.value, len(records))).astype(int)]
    found[dataset] = study(lift, picked, np.random.default_rng(common.SEED.value))
    head = ["fault", "clips", "refused", "untrusted", "mended", "caught", "MPJPE mm"]
    names = ("clips", "refused", "untrusted", "mended", "caught")
    table = [[row["fault"], *(str(row.get(name, 0)) for name in names),
              "" if row["mpjpe_mm"] is None else f"{row['mpjpe_mm']:.1f}"] for row in found[dataset]]
    for doubt in found[dataset][0]["doubts"]:
      print(f"  doubted as it is: {doubt}")
    print(f"{dataset}, split {SPLIT.value}, base {lift.weights.base.digest}\n{markdown_table(head, table)}", flush=True)
  results_file.write(found)


if __name__ == "__main__":
  common.run(main)
