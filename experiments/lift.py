"""Lifts the 2D keypoints of your own video to 3D, with the base that ships, your own, or an adapted run.

    python -m experiments.lift --video=walk.mp4 --output=walk.npz
    python -m experiments.lift --keypoints=openpose/ --resolution=1920x1080 --fps=30 --output=walk.npz
    python -m experiments.lift --run=runs/hdm05_wild --keypoints=alphapose-results.json --resolution=1920x1080 \\
        --fps=30 --intrinsics=1450,1450,960,540 --person=1 --hypotheses=5 --output=walk.npz --bvh=walk.bvh

Reads files of OpenPose, AlphaPose, MMPose, YOLO-pose, MediaPipe, Detectron and others; the content tells the format.
It takes about ten seconds, and one more for a thousand frames on two cores with a compact base. The npz holds, for T
frames:

    frame [T]                    number in the video, from the person's first sighting to the last
    pose_root_m [T 17 3]         root-relative pose, m, Human3.6M-17 order, camera frame (x right, y down, z forward)
    pose_camera_m [T 17 3]       the same at its place before the camera (`solve_root`)
    pose_level_m [T 17 3]        the same in a level frame: x right, y up, floor at 0 (--up)
    picture_frames, _ends, _bytes   with --video: frames of it as JPEG, for the page
    sigma_m [T 17]               how far off each joint may be, m: root of the expected square distance (doubt)
    deviation_m [T 17 2]         the same as standard deviations across the image and along depth
    hypotheses_root_m [H T 17 3] all hypotheses, with --hypotheses above 1
    keypoints_px, confidence     the input [T 17 2] and [T 17]; `detected` [T] is False where frames were interpolated
    reprojection_px [T]          distance of projection and keypoints: large where lifting failed, NaN if not detected
    trusted [T], trusted_joints [T 17]   False where the 2D shows that the answer cannot be believed; why is printed
    intrinsics, resolution, fps  as given or guessed; `metadata` is JSON that says which, with all other settings

Several videos, --video=a.mp4,b.mp4 --output=FOLDER, share the start and the compiled program. With --person=all the
arrays of the second person and more end in _1, _2, ..., and so do the names of BVH, TRC and CSV files.
"""

import dataclasses
import io
import json
import pathlib
import sys

import numpy as np
from absl import flags
from PIL import Image

from posynda_jax import lifter
from posynda_jax.evaluation import lifting, scoring
from posynda_jax.geometry import gravity
from posynda_jax.interop import bvh_writer, motion_tables
from posynda_jax.interop.video import reader
from posynda_jax.runtime import files
from posynda_jax.visuals import figures, pose_sequence

from . import common, own_keypoints, sampling

KEYPOINTS = flags.DEFINE_list("keypoints", [], "File or folder that a 2D detector wrote; several by commas.")
VIDEO = flags.DEFINE_list("video", [], "A video, in place of --keypoints; its 2D is kept beside --output.")
OUTPUT = flags.DEFINE_string(
    "output", None, "The npz file to write, with a picture beside it. For several videos: a folder, like --bvh, --trc "
    "and --angles then; files in it are named after the videos.")
STRICT = flags.DEFINE_bool("strict", False, "End with exit code 3 where a frame is not trusted.")
UP = flags.DEFINE_string(
    "up", "auto", "Up of the level frame of pose_level_m and of BVH and TRC files: auto finds it from upright people, "
    "camera takes the image's vertical, or x,y,z in the camera's axes, which also levels a camera, as --pitch does.")
PITCH = flags.DEFINE_string(
    "pitch", "auto", "Degrees that the camera looks below the horizon, or level: people are lifted as a level camera "
    "sees them. auto finds the tilt from upright people; any lifts them as the camera shows them.")
SMOOTH = flags.DEFINE_float("smooth", 0.0, "Remove motion faster than this many Hz; 0 removes none.", lower_bound=0)
HEIGHT = flags.DEFINE_list(
    "height", [], "Standing height of the person, m, to which poses are scaled; with --person=all one each, by commas.")
BVH = flags.DEFINE_string("bvh", None, "Also write the motion as this BVH file.")
BVH_UNIT = flags.DEFINE_enum("bvh_unit", "cm", list(bvh_writer.UNITS), "Its length unit.")
TRC = flags.DEFINE_string("trc", None, "Also write the motion as this TRC file, for OpenSim and Pose2Sim.")
ANGLES = flags.DEFINE_string("angles", None, "Also write joint angles as this CSV file.")
PICTURE_S, MOST_PICTURES, PICTURE_PX = 0.2, 120, 400  # seconds between pictures, how many, their longest side
flags.DEFINE_alias("adapter", "run")
for module in (own_keypoints, sampling):
  flags.adopt_module_key_flags(module)


def main() -> None:
  inputs = VIDEO.value or KEYPOINTS.value
  if bool(VIDEO.value) == bool(KEYPOINTS.value) or OUTPUT.value is None:
    raise ValueError("--keypoints or --video, and --output are needed: what to lift, and where to write it")
  _known_up()  # refuses other values before anything is read
  ends = ((OUTPUT, ".npz"), (BVH, ".bvh"), (TRC, ".trc"), (ANGLES, ".csv"))
  wanted = [_paths(inputs, flag.value, end) for flag, end in ends]
  weights = sampling.load_weights()
  config = sampling.config(weights)
  program = lifting.make_lifter(weights.make_doubting, config)  # one for all
  lift = lifter.Lifter(weights, program, config, find_up=PITCH.value == "auto")
  trusted = [_lift_one(given, paths, lift) for given, *paths in zip(inputs, *wanted, strict=True)]
  if STRICT.value and not all(trusted):
    sys.exit(3)


def _paths(inputs: list[str], wanted: str | None, end: str) -> list[pathlib.Path | None]:
  """The file to write for each input: the one that a flag names, or for several one each in the folder that it names.

  Raises ValueError for an npz with another ending, and for inputs of one name.
  """
  if wanted is None:
    return [None] * len(inputs)
  if len(inputs) == 1:
    if end == ".npz" and not wanted.endswith(end):
      raise ValueError(f"--output={wanted} does not end in .npz: the poses are written as an npz file")
    return [common.output_path(wanted)]
  names = [pathlib.Path(given).stem for given in inputs]
  if len(set(names)) < len(names):
    raise ValueError(f"two of {', '.join(inputs)} have one name: lift them one by one")
  folder = pathlib.Path(wanted).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  return [folder / f"{name}{end}" for name in names]


def _lift_one(given: str, paths: list[pathlib.Path | None], lift: lifter.Lifter) -> bool:
  """Lifts everybody of one video or file of keypoints, and writes the files; returns whether all frames are trusted."""
  output, *others = paths
  video = given if VIDEO.value else None
  found = own_keypoints.read(own_keypoints.detect(video, output.with_name(f"{output.stem}_2d.npz")) if video else given)
  if len(videos := dict.fromkeys(one.report["sequence"] for one in found)) > 1:
    names = ", ".join(list(videos)[:8]) + (", ..." if len(videos) > 8 else "")
    raise ValueError(f"{given} holds {len(videos)} videos: choose one with --sequence ({names})")
  for warning in (rate_warning := lifting.rate_warning(found[0].record, lift.weights.base.clip_fps)):
    print(f"  warning: {warning}", flush=True)
  if (known := _known_up()) is not None:
    found = [_told(one, known) for one in found]
  elif len(found) > 1:  # all have one camera: that of the person who is seen longest
    found = [_told(one, lift.up_of(found[0].record)) for one in found]
  found, people = zip(*map(lift.settle, found), strict=True)
  if SMOOTH.value:
    rates = [float(recording.record["fps"]) for recording in found]
    people = [lifting.smooth(lifted, fps, SMOOTH.value) for lifted, fps in zip(people, rates, strict=True)]
  people = _sized(people)
  up = _up(people[0])  # all have one camera
  arrays, written = {}, [output, output.with_suffix(".png")]
  for number, (recording, lifted) in enumerate(zip(found, people, strict=True)):
    suffix = f"_{number}" if number else ""
    joints = lifted.pose + lifted.root[:, None]
    level = gravity.stand(joints, up.vector)
    metadata = _metadata(recording, lifted, lift, up, rate_warning) | ({"path": video} if video else {})
    its = _arrays(recording, lifted) | {
        "pose_camera_m": joints, "pose_level_m": level, "metadata": np.array(json.dumps(metadata))}
    arrays |= {f"{name}{suffix}": values for name, values in its.items()}
    others_of_person = [path and path.with_stem(path.stem + suffix) for path in others]
    written += _export(others_of_person, lifted.pose, level, float(recording.record["fps"]), int(lifted.frame[0]))
    _report(recording, lifted, f"Person {number}: " if len(people) > 1 else "")
  arrays |= _pictures(found[0], video) if video else {}
  with files.writing(output) as file:
    np.savez_compressed(file, **arrays)
  _save_picture(output.with_suffix(".png"), found[0], people[0], video)
  print(f"{sum(len(one.frame) for one in people):,} frames in {', '.join(map(str, written))}", flush=True)
  return all(one.trust.frames.all() for one in people)


def _sized(people: list[lifting.Lifted]) -> list[lifting.Lifted]:
  """The people at the heights of --height. Raises ValueError for another number of them."""
  if not HEIGHT.value:
    return people
  try:
    heights = [float(text) for text in HEIGHT.value]
  except ValueError as error:
    raise ValueError(f"--height={','.join(HEIGHT.value)}: {error}; write metres, as in --height=1.75") from error
  if len(heights) != len(people):
    raise ValueError(f"--height gives {len(heights)} heights for {len(people)} people: give one each")
  return [lifting.scale_to_height(lifted, height) for lifted, height in zip(people, heights, strict=True)]


def _metadata(
    recording, lifted: lifting.Lifted, lift: lifter.Lifter, up: gravity.Up, rate_warning: list[str]
) -> dict:
  """What the npz says of one person beside the arrays, as JSON."""
  weights, base = lift.weights, lift.weights.base
  return recording.report | {
      "warnings": recording.report["warnings"] + rate_warning, "run": sampling.name(), "weights": weights.name,
      "base": base.digest, "joints": "Human3.6M-17", "axes": "camera: x right, y down, z forward; metres",
      "root": "solve", "clip_fps": base.clip_fps, **scoring.describe_sampling(lift.config),
      "up": dataclasses.asdict(up) | {"vector": up.vector.tolist()},
      "lifted_up": None if lifted.up is None else lifted.up.tolist(), "smooth_hz": SMOOTH.value,
      "height_m": round(lifting.height(lifted), 3), "height": "given" if HEIGHT.value else "guessed",
      "untrusted": [{"first": first, "last": last, "why": why} for first, last, why in lifted.trust.reasons],
  }


def _report(recording, lifted: lifting.Lifted, who: str) -> None:
  """Prints what is known of one person's poses without the truth."""
  errors, summary = lifted.reprojection_px, lifted.trust.summary
  worst = int(np.nanargmax(errors))
  print(f"{who}Reprojection error: mean {np.nanmean(errors):.1f} px, median {np.nanmedian(errors):.1f} px, largest "
        f"{errors[worst]:.1f} px in frame {recording.frames[worst]}. It shows bad input; it does not measure depth.")
  if lifted.up is not None:
    how = "as given" if _known_up() is not None else "as upright people show: see --pitch"
    tilt = gravity.angle_deg(lifted.up, gravity.CAMERA_UP)
    print(f"{who}Lifted as a level camera sees it; this one is {tilt:.0f} degrees off, {how}")
  print(f"{who}Height: {lifting.height(lifted):.2f} m, " + ("as given" if HEIGHT.value else "a guess: see --height"))
  if np.isfinite(lifted.deviation).all():
    print(f"{who}Expected error: {1000 * lifted.sigma_m.mean():.0f} mm a joint")
  print(who + summary[0].upper() + summary[1:])


def _told(recording, up: np.ndarray | None):
  """The recording, and its other labelling, with the up of its camera."""
  other = recording.other and _told(recording.other, up)
  return dataclasses.replace(recording, record=recording.record | {"up": up}, other=other)


def _known_up() -> np.ndarray | None:
  """The up that --pitch or --up tells, in the camera's axes. Raises ValueError for other values of these flags, or for
  both.
  """
  if UP.value not in ("auto", "camera"):
    if PITCH.value != "auto":
      raise ValueError(f"--up={UP.value} and --pitch={PITCH.value} both tell the camera's up: give one of them")
    try:
      given = np.array(UP.value.split(","), float)
    except ValueError:
      given = np.zeros(3)
    if given.shape != (3,) or not 0 < np.linalg.norm(given) < np.inf:
      raise ValueError(f"--up={UP.value} is neither auto, camera nor x,y,z: a level camera has 0,-1,0")
    return given / np.linalg.norm(given)
  if PITCH.value in ("auto", "any"):
    return None
  try:
    degrees = 0.0 if PITCH.value == "level" else float(PITCH.value)
  except ValueError:
    degrees = np.nan
  if not abs(degrees) <= lifting.MOST_TILT_DEG:
    raise ValueError(f"--pitch={PITCH.value} is neither auto, any, level nor degrees below the horizon, up to "
                     f"{lifting.MOST_TILT_DEG:g}")
  return gravity.pitched(degrees)


def _up(lifted: lifting.Lifted) -> gravity.Up:
  """The up of the level frame, and a line that says where it comes from."""
  if UP.value == "camera":
    return gravity.Up(gravity.CAMERA_UP, True, 0.0, 0)
  if (known := _known_up()) is not None:
    return gravity.Up(known, True, 0.0, 0)
  found = gravity.find_up(lifted.pose, lifted.trust.frames)
  tilt = gravity.angle_deg(found.vector, gravity.CAMERA_UP)
  how = f"from {found.frames:,} upright frames that differ by {found.spread_deg:.0f} degrees"
  if found.is_sure:
    print(f"Up: {tilt:.0f} degrees from the image's, {how}")
    return found
  print("Up: the image's, because few people stand upright; --pitch or --up gives it")
  return gravity.Up(gravity.CAMERA_UP, False, found.spread_deg, found.frames)


def _export(paths: list, pose: np.ndarray, level: np.ndarray, fps: float, first: int) -> list[pathlib.Path]:
  """Writes the files of --bvh, --trc and --angles that are asked for, and returns their paths."""
  bvh, trc, angles = paths
  if bvh:
    stray = bvh_writer.write(bvh, level, fps, BVH_UNIT.value)
    print(f"The BVH file is in {BVH_UNIT.value}, Y up. Its bones have one length, the mean, so joints lie up to "
          f"{1000 * stray:.0f} mm from the npz's.")
  if trc:
    motion_tables.write_trc(trc, level, fps, first)
  if angles:
    motion_tables.write_angles(angles, pose, fps, first)
  return [path for path in paths if path]


def _pictures(recording, video: str) -> dict[str, np.ndarray]:
  """Frames of the video for the page: their numbers, and one array of all JPEG bytes with the end of each."""
  fps, length = float(recording.record["fps"]), len(recording.frames)
  frames = recording.frames[:: max(round(PICTURE_S * fps), -(-length // MOST_PICTURES))]
  jpegs = []
  for shown in reader.pictures(video, frames / fps):
    small = Image.fromarray(shown)
    small.thumbnail((PICTURE_PX, PICTURE_PX))
    small.save(file := io.BytesIO(), "JPEG", quality=80)
    jpegs.append(np.frombuffer(file.getvalue(), np.uint8))
  return {"picture_frames": frames, "picture_ends": np.cumsum([len(jpeg) for jpeg in jpegs]),
          "picture_bytes": np.concatenate(jpegs)}


def _save_picture(
    path: pathlib.Path, recording, lifted: lifting.Lifted, video: str | None, rows: int = 4
) -> None:
  """A few frames, spread over those with a detection: the 2D input and the 3D pose."""
  picked = pose_sequence.spread_frames(np.isfinite(lifted.reprojection_px), rows)
  captions = {"lifted": [f"reprojection {error:.1f} px" for error in lifted.reprojection_px[picked]]}
  labels = [f"frame {frame}" for frame in recording.frames[picked]]
  keypoints, columns = recording.record["keypoints_px"][picked], {"lifted": lifted.pose[picked]}
  fps = float(recording.record["fps"])
  images = reader.pictures(video, recording.frames[picked] / fps) if video else ()
  figures.save(path, figures.methods_figure(keypoints, columns, labels, captions, images))


def _arrays(recording, lifted: lifting.Lifted) -> dict[str, np.ndarray]:
  """Arrays of one person by name, as the module's docstring lists them."""
  record = recording.record
  arrays = {
      "frame": recording.frames, "pose_root_m": lifted.pose,
      "keypoints_px": record["keypoints_px"], "confidence": record["confidence"], "detected": record["valid"],
      "reprojection_px": lifted.reprojection_px, "intrinsics": record["intrinsics"], "resolution": record["resolution"],
      "fps": record["fps"], "trusted": lifted.trust.frames, "trusted_joints": lifted.trust.joints,
  }
  if np.isfinite(lifted.deviation).all():
    arrays |= {"sigma_m": lifted.sigma_m, "deviation_m": lifted.deviation}
  if lifted.hypotheses.shape[1] > 1:
    arrays["hypotheses_root_m"] = np.moveaxis(lifted.hypotheses, 1, 0)
  return arrays


if __name__ == "__main__":
  common.run(main)
