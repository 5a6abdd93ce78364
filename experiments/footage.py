"""Lifts of real footage against what four calibrated cameras saw, on Pose2Sim's demonstration, which anybody may fetch.

    pip download --no-deps pose2sim==0.10.49
    python -m experiments.footage --wheel=pose2sim-0.10.49-py3-none-any.whl --detector=DIR --json=footage.json

One person, four views of 100 frames at 60 fps (BSD-3, David Pagnon and contributors). 2D is detected in each view; the
twelve joints of the limbs are triangulated from all four, weighted by confidence; each view's lift is scored against
them, relative to the middle of the hips, in the axes of its camera. Beside it stands BlazePose's own 3D of the same
frames. `cam04` is held out: nothing may be chosen on it. `--copies` also lifts copies of each video: as it is, turned
by a quarter with metadata that turn it back, and without every fifth frame.
"""

import contextlib
import dataclasses
import fractions
import json
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator

import numpy as np
from absl import flags

from posynda_jax import lifter
from posynda_jax.adaptation import bases
from posynda_jax.geometry import metrics, triangulation
from posynda_jax.interop import qualisys
from posynda_jax.interop.keypoints import recordings
from posynda_jax.interop.keypoints.detections import Detections
from posynda_jax.interop.video import blazepose, detection, reader
from posynda_jax.runtime.text import markdown_table

from . import common, own_keypoints, results_file

WHEEL = flags.DEFINE_string("wheel", None, "Pose2Sim's wheel, or a folder with its Demo_SinglePerson unpacked.")
COPIES = flags.DEFINE_bool("copies", False, "Compare lifts of copies with those of the videos.")
CACHE = flags.DEFINE_string("cache", None, "Folder that keeps the detections between calls.")
for flag in ("base", "detector", "model", "json"):
  flags.declare_key_flag(flag)
VIEWS = ("cam01", "cam02", "cam03", "cam04")
LIMBS = np.array([11, 13, 15, 12, 14, 16, 23, 25, 27, 24, 26, 28])  # of BlazePose's 33: left before right
IN_H36M = np.array([11, 12, 13, 14, 15, 16, 4, 5, 6, 1, 2, 3])  # the same joints
HIPS = (6, 9)  # places of the hips among them
FPS = 60.0
MANY = {"num_hypotheses": 20, "sampling_steps": 2, "select": "bones", "hypothesis_chunk": 4}


def detect(folder: pathlib.Path, network: blazepose.BlazePose | None, cache: pathlib.Path) -> dict[str, dict]:
  """{view: {"joints" [T 33 3] px and visibility, "world" [T 33 3] m}} of the person who is seen longest; NaN: not."""
  found = {}
  for view in VIEWS:
    kept = cache / f"{view}.npz"
    if not kept.exists():
      times, rows = detection.track(reader.frames(folder / "videos" / f"{view}.mp4"), network)
      numbers = [number for _, number, _ in rows]
      person = max(set(numbers), key=numbers.count)
      arrays = {name: np.full((len(times), 33, 3), np.nan) for name in ("joints", "world")}
      for t, number, one in rows:
        if number == person:
          arrays["joints"][t], arrays["world"][t] = one.joints, one.world
      np.savez_compressed(kept, **arrays)
    found[view] = dict(np.load(kept))
  return found


def read(joints: np.ndarray, **options) -> recordings.Recording:
  """The recording of one view's joints [T 33 3]; `options` are fields of `recordings.Options`."""
  seen = np.isfinite(joints).all((1, 2))
  made = Detections(np.flatnonzero(seen), joints[seen, :, :2], joints[seen, :, 2], detection.LAYOUT)
  return recordings.from_detections(made, recordings.Options(fps=FPS, **options), "blazepose")


def mend(joints: np.ndarray, size) -> np.ndarray:
  """A view's joints [T 33 3] with exchanged limbs exchanged back and jumps interpolated, for the triangulation."""
  recording = read(joints, resolution=size)
  mended, points = joints.copy(), own_keypoints.as_detected(recording.record)[0]
  mended[np.ix_(recording.frames, LIMBS)] = points[:, IN_H36M]
  return mended


def triangulate(found: dict[str, dict], cameras: dict) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
  """(limb joints [T 12 3] m in the world, residuals [T 12] px, frames by which each view is late)."""
  matrices = np.stack([intrinsic_matrix(intrinsics) @ outer for intrinsics, outer in (cameras[view] for view in VIEWS)])
  seen = [np.nan_to_num(found[view]["joints"][:, LIMBS]) for view in VIEWS]
  points, residual, late = triangulation.synchronise(seen, matrices)
  return points, residual, dict(zip(VIEWS, late, strict=True))


def intrinsic_matrix(intrinsics: np.ndarray) -> np.ndarray:
  """[3 3] of fx, fy, cx, cy (px)."""
  fx, fy, cx, cy = intrinsics
  return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def score(poses: np.ndarray, truth: np.ndarray) -> dict[str, float]:
  """MPJPE and P-MPJPE (mm) of twelve joints [T 12 3] relative to the middle of the hips."""
  poses, truth = (np.float32(x - x[:, HIPS].mean(1, keepdims=True)) for x in (poses, truth))
  return {"mpjpe_mm": 1000 * float(np.mean(metrics.mpjpe(poses, truth))),
          "p_mpjpe_mm": 1000 * float(np.mean(metrics.p_mpjpe(poses, truth)))}


def study(folder: pathlib.Path, found: dict[str, dict], base: bases.Base) -> dict:
  """Rows by view, the residuals, and by how many frames views are late."""
  lift, twenty = lifter.load(base), lifter.load(base, **MANY)
  as_it_is = dataclasses.replace(lift, find_up=False)
  methods = {  # name -> (lifter, fields of `recordings.Options`, whether the up of the calibration is told)
      "ours": (lift, {}, False), "ours, 20 hypotheses by bones": (twenty, {}, False), "ours, up told": (lift, {}, True),
      "ours, not levelled": (as_it_is, {}, False), "ours, 2D as detected": (lift, {"mend": False}, False),
      "BlazePose's 3D": (None, {}, False),
  }
  cameras = qualisys.read_calibration(folder / "calibration" / "Calib.qca.txt")
  size = sizes(folder)
  mended = {view: {"joints": mend(found[view]["joints"], size[view])} for view in VIEWS}
  truth, residual, late = triangulate(mended, cameras)
  rows = []
  for view in VIEWS:
    intrinsics, outer = cameras[view]
    at = np.arange(len(truth)) + late[view]
    good = (at >= 0) & (at < len(found[view]["joints"]))
    in_camera = np.einsum("ij,tkj->tki", outer[:, :3], truth)[good]
    own = found[view]["world"][at[good]][:, LIMBS]
    for method, (lift, options, told) in methods.items():
      row = {"view": view, "method": method}
      if lift is None:
        row |= score(own, in_camera)
      else:
        options = options | {"resolution": size[view], "intrinsics": tuple(intrinsics.tolist())}
        options |= {"up": tuple(outer[:, 2])} if told else {}  # the world's Z axis, in the camera's
        recording = read(found[view]["joints"], **options)
        lifted = lift.lift_recording(recording)
        row |= score(lifted.pose[at[good] - recording.frames[0]][:, IN_H36M], in_camera)
        row |= {"exchanged": recording.report["exchanged_frames"], "trusted": float(lifted.trust.frames.mean())}
      rows.append(row)
  return {"rows": rows, "residual_px": float(np.median(residual)), "late": late, "model": own_keypoints.MODEL.value,
          "base": base.digest}


@contextlib.contextmanager
def opened() -> Iterator[tuple[pathlib.Path, dict[str, dict]]]:
  """(folder of the demonstration, what is detected in each view), of the flags. Raises ValueError without --wheel."""
  if WHEEL.value is None:
    raise ValueError("--wheel is not given: pip download --no-deps pose2sim==0.10.49, and name the file")
  with tempfile.TemporaryDirectory() as temporary:
    cache = pathlib.Path(CACHE.value or temporary)
    cache.mkdir(exist_ok=True)
    folder = pathlib.Path(WHEEL.value)
    if folder.is_file():
      with zipfile.ZipFile(folder) as archive:
        archive.extractall(temporary, [name for name in archive.namelist() if "Demo_SinglePerson/" in name])
      folder = pathlib.Path(temporary) / "Pose2Sim"
    folder = folder / "Demo_SinglePerson" if (folder / "Demo_SinglePerson").is_dir() else folder
    has_all = all((cache / f"{view}.npz").exists() for view in VIEWS)
    network = None if has_all else blazepose.BlazePose(own_keypoints.DETECTOR.value, own_keypoints.MODEL.value)
    yield folder, detect(folder, network, cache)


def sizes(folder: pathlib.Path) -> dict[str, tuple[float, float]]:
  """Width and height (px) of each view."""
  return {view: reader.probe(folder / "videos" / f"{view}.mp4").resolution for view in VIEWS}


def write_copy(source: pathlib.Path, path: pathlib.Path, rotation: int = 0, drop: int = 0) -> None:
  """A copy of a video, stored turned by `rotation` degrees, without every `drop`-th frame."""
  import av

  info, ticks = reader.probe(source), 90_000
  with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264rgb", rate=round(info.fps), options={"qp": "0", "preset": "ultrafast"})
    stream.width, stream.height = map(int, info.resolution[::-1] if rotation % 180 else info.resolution)
    stream.pix_fmt, stream.codec_context.time_base = "rgb24", fractions.Fraction(1, ticks)
    stream.set_display_rotation(rotation)
    for number, (seconds, image) in enumerate(reader.frames(source)):
      if not drop or number % drop < drop - 1:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(image, -rotation // 90)), format="rgb24")
        frame.pts, frame.time_base = round(seconds * ticks), fractions.Fraction(1, ticks)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def compare_copies(folder: pathlib.Path, base: bases.Base) -> list[dict]:
  """For each view and copy the mean distance (mm) of its root-relative joints from those of the video itself."""
  lift, found = lifter.load(base), []
  copies = {"copied": {}, "turned by 90 degrees": {"rotation": 90}, "without every fifth frame": {"drop": 5}}
  detector, model = own_keypoints.DETECTOR.value, own_keypoints.MODEL.value
  with tempfile.TemporaryDirectory() as temporary:
    for view in VIEWS:
      video, copy = folder / "videos" / f"{view}.mp4", pathlib.Path(temporary) / f"{view}.mp4"
      whole = lift.from_video(video, detector, model=model)
      for name, how in copies.items():
        write_copy(video, copy, **how)
        own = lift.from_video(copy, detector, model=model)
        _, at, own_at = np.intersect1d(whole.frame, own.frame, return_indices=True)
        apart = 1000 * float(np.linalg.norm(own.pose[own_at] - whole.pose[at], axis=-1).mean())
        found.append({"view": view, "copy": name, "apart_mm": apart})
  return found


def main() -> None:
  with opened() as (folder, detected):
    base = bases.load(common.BASE.value)
    found = study(folder, detected, base)
    if COPIES.value:
      found["copies"] = compare_copies(folder, base)
  print(f"triangulated from four views: median residual {found['residual_px']:.1f} px; frames late: {found['late']}")
  print(markdown_table(["view", *(name for name in ("method", "MPJPE mm", "P-MPJPE mm", "sides exchanged back"))], [
      [row["view"], row["method"], f"{row['mpjpe_mm']:.1f}", f"{row['p_mpjpe_mm']:.1f}", str(row.get("exchanged", ""))]
      for row in found["rows"]]))
  for method in dict.fromkeys(row["method"] for row in found["rows"]):
    of_method = [row for row in found["rows"] if row["method"] == method]
    print(f"mean of four views, {method}: MPJPE {np.mean([row['mpjpe_mm'] for row in of_method]):.1f} mm, P-MPJPE "
          f"{np.mean([row['p_mpjpe_mm'] for row in of_method]):.1f} mm", flush=True)
  for row in found.get("copies", ()):
    print(f"{row['view']} {row['copy']}: joints lie {row['apart_mm']:.1f} mm from the video's own")
  results_file.write(json.loads(json.dumps(found)))


if __name__ == "__main__":
  common.run(main)
