"""Error of the up direction that `lift` finds, what levelling is worth, and the effect of --smooth.

    python -m experiments.motion --dataset=cmu_mocap/wild_rig_detected --manual_dir=DIR --json=motion.json

Lifts clips of a virtual rig, whose true up follows from the motion that it rendered. For each action the table has the
median angle (degrees) between the found and the true up, of clips where `gravity.find_up` is sure, beside that of a
camera taken as level. A second table has MPJPE by roll of the camera, which the rig does not have: of people lifted as
the camera shows them, levelled by the up that is found, and by the true one. A third has, for each cutoff, MPJPE and
the mean error of joints' acceleration (m/s^2).
"""

import dataclasses

import numpy as np
from absl import flags

from posynda_jax import lifter
from posynda_jax.adaptation import sources
from posynda_jax.evaluation import lifting
from posynda_jax.geometry import gravity, skeleton
from posynda_jax.interop.keypoints import recordings
from posynda_jax.runtime.text import markdown_table

from . import common, own_keypoints, results_file

DATASET = flags.DEFINE_string("dataset", "cmu_mocap/wild_rig_detected", "dataset/config of a virtual rig.")
CLIPS = flags.DEFINE_integer("clips", 200, "Clips, spread over the test split.", lower_bound=2)
ROLLS = flags.DEFINE_list("rolls", ["0", "10", "20"], "Rolls of the camera, in degrees.")
CUTOFFS = flags.DEFINE_list("cutoffs", ["0", "10", "6", "4", "2"], "Values of lift --smooth, in Hz.")
for flag in ("base", "data_dir", "manual_dir", "json"):
  flags.declare_key_flag(flag)


def acceleration(poses: np.ndarray, fps: float) -> np.ndarray:
  return np.diff(poses, 2, axis=0) * fps**2


def rolled(record: dict, degrees: float) -> dict:
  """The record of a camera that is rolled about its optical axis; it has one focal length and no distortion."""
  c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
  turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
  centre = record["intrinsics"][2:4]
  return record | {"keypoints_px": centre + (record["keypoints_px"] - centre) @ turn[:2, :2].T,
                   "poses_camera_m": record["poses_camera_m"] @ turn.T}


def study_levels(lift: lifter.Lifter, records: list[dict], worlds: dict[str, np.ndarray]) -> list[dict]:
  """MPJPE (mm) by roll of the camera, and how many clips were levelled without being told."""
  as_shown, rows = dataclasses.replace(lift, find_up=False), []
  for roll in map(float, ROLLS.value):
    errors, frames, levelled = {"as_shown": [], "found": [], "told": []}, [], 0
    for record in (rolled(one, roll) for one in records):
      up = gravity.up_of_motion(record["poses_camera_m"], worlds[record["sequence"].rpartition("/")[0]])
      points, told = own_keypoints.as_detected(record)
      found = {name: its.lift_recording(recordings.from_array(points, recordings.Options(**told | known)))
               for name, its, known in (("as_shown", as_shown, {}), ("found", lift, {}), ("told", lift, {"up": up}))}
      truth = np.asarray(skeleton.root_centre(record["poses_camera_m"]))[found["told"].frame]
      for name, its in found.items():
        errors[name].append(1000 * np.linalg.norm(its.pose - truth, axis=-1).mean())
      frames.append(len(truth))
      levelled += found["found"].up is not None
    means = {name: float(np.average(values, weights=frames)) for name, values in errors.items()}
    rows.append({"roll_deg": roll, "clips": len(frames), "levelled": levelled, **means})
  return rows


def main() -> None:
  dataset, folders, lift = DATASET.value.partition("/")[0], common.folders(), lifter.load(common.BASE.value)
  worlds = {one["sequence"]: one["poses_world_m"] for one in sources.load_records(f"{dataset}/world", "test", folders)}
  records = list(filter(own_keypoints.is_inside, sources.load_records(DATASET.value, "test", folders)))
  records = [records[i] for i in np.linspace(0, len(records) - 1, min(CLIPS.value, len(records))).astype(int)]
  tilts, smoothed = [], {float(cutoff): [] for cutoff in CUTOFFS.value}
  for record in records:
    points, told = own_keypoints.as_detected(record)
    lifted = lift.lift_recording(recordings.from_array(points, recordings.Options(**told)))
    if len(lifted.pose) != len(record["valid"]):
      continue  # nobody was detected in the first or last frames
    up = gravity.up_of_motion(record["poses_camera_m"], worlds[record["sequence"].rpartition("/")[0]])
    found = gravity.find_up(lifted.pose, lifted.trust.frames)
    found_deg, level_deg = (float(gravity.angle_deg(one, up)) for one in (found.vector, gravity.CAMERA_UP))
    tilts.append({"action": record["action"], "sure": found.is_sure, "found_deg": found_deg, "level_deg": level_deg})
    fps, truth = float(record["fps"]), np.asarray(skeleton.root_centre(record["poses_camera_m"]))
    for cutoff, errors in smoothed.items():
      pose = (lifting.smooth(lifted, fps, cutoff) if cutoff else lifted).pose
      errors.append((1000 * np.linalg.norm(pose - truth, axis=-1).mean(), np.linalg.norm(
          acceleration(pose, fps) - acceleration(truth, fps), axis=-1).mean(), len(truth)))
  rows = []
  for action in sorted({one["action"] for one in tilts}):
    of_action = [one for one in tilts if one["action"] == action]
    sure = [one["found_deg"] for one in of_action if one["sure"]]
    rows.append({"action": action, "clips": len(of_action), "sure": len(sure),
                 "found_deg": float(np.median(sure)) if sure else None,
                 "level_deg": float(np.median([one["level_deg"] for one in of_action]))})
  print(markdown_table(["action", "clips", "sure", "found up, degrees", "camera as level, degrees"], [
      [row["action"], str(row["clips"]), str(row["sure"]), f"{row['found_deg']:.1f}" if row["sure"] else "",
       f"{row['level_deg']:.1f}"] for row in rows]))
  levels = study_levels(lift, records, worlds)
  print(markdown_table(["roll, degrees", "as shown", "levelled by the up found", "by the true up", "levelled clips"], [
      [f"{row['roll_deg']:g}", *(f"{row[name]:.1f}" for name in ("as_shown", "found", "told")),
       f"{row['levelled']} of {row['clips']}"] for row in levels]))
  effects = []
  for cutoff, errors in smoothed.items():
    mpjpe, accel, frames = np.array(errors).T
    effects.append({"smooth_hz": cutoff, "mpjpe_mm": float(np.average(mpjpe, weights=frames)),
                    "acceleration_error": float(np.average(accel, weights=frames))})
  print(markdown_table(["--smooth, Hz", "MPJPE mm", "acceleration error m/s^2"], [
      [f"{row['smooth_hz']:g}", f"{row['mpjpe_mm']:.1f}", f"{row['acceleration_error']:.2f}"] for row in effects]))
  found = {"up": rows, "levels": levels, "smooth": effects}
  results_file.write({"dataset": DATASET.value, "base": lift.weights.base.digest} | found)


if __name__ == "__main__":
  common.run(main)
