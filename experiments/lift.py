"""Lifts the 2D keypoints of your own video to 3D, with the base that ships, your own, or an adapted run.

    python -m experiments.lift --keypoints=openpose/ --resolution=1920x1080 --fps=30 --output=walk.npz
    python -m experiments.lift --run=runs/hdm05_wild --keypoints=alphapose-results.json --resolution=1920x1080 --fps=30 \\
        --intrinsics=1450,1450,960,540 --person=1 --hypotheses=5 --output=walk.npz --bvh=walk.bvh

Reads what OpenPose, AlphaPose, MMPose, YOLO-pose, MediaPipe, Detectron and others write; the format is told by the content. Takes
about ten seconds, and about one more for a thousand frames on two cores with a compact base. The npz holds, for every frame T:

    frame [T]                    its number in the video, from the person's first sighting to the last
    pose_root_m [T 17 3]         root-relative pose in metres, Human3.6M-17 order, camera frame (x right, y down, z forward)
    pose_camera_m [T 17 3]       the same with its place before the camera (`solve_root`)
    hypotheses_root_m [H T 17 3] all of H hypotheses, with --hypotheses above 1
    keypoints_px, confidence     the input [T 17 2] and [T 17]; `detected` [T] is False where frames were interpolated
    reprojection_px [T]          how far the pose projects from its keypoints: large where it failed, NaN if not detected
    intrinsics, resolution, fps  as given or guessed; `metadata` is a JSON text that says which, with all other settings
"""

import json
import pathlib

import numpy as np
from absl import flags

from experiments import common, own_keypoints
from posynda_jax import lifter
from posynda_jax.adaptation import adapt
from posynda_jax.diffusion import hypotheses
from posynda_jax.evaluation import evaluate
from posynda_jax.interop import bvh_writer

flags.declare_key_flag("base")
RUN = flags.DEFINE_string("run", None, "Folder of an adaptation run, which knows its base; or an adapter's .safetensors file.")
flags.DEFINE_alias("adapter", "run")
WEIGHTS = flags.DEFINE_enum("weights", "adapted", ["adapted", "ceiling", "source_only"], "Which weights of an adaptation run.")
KEYPOINTS = flags.DEFINE_string("keypoints", None, "File or folder that a 2D detector wrote.")
OUTPUT = flags.DEFINE_string("output", None, "The npz file to write; a picture is put beside it.")
BVH = flags.DEFINE_string("bvh", None, "Also write the motion as this BVH file.")
BVH_UNIT = flags.DEFINE_enum("bvh_unit", "cm", list(bvh_writer.UNITS), "Its length unit.")
HYPOTHESES = flags.DEFINE_integer("hypotheses", 1, "H, hypotheses per clip.", lower_bound=1)
SAMPLING_STEPS = flags.DEFINE_integer("sampling_steps", 1, "K, DDIM steps.", lower_bound=1)
SELECT = flags.DEFINE_enum("select", "mean", evaluate.RULES, "Rule that makes one pose of H.")
REFINE = flags.DEFINE_enum("refine", "none", hypotheses.REFINEMENTS, "What the keypoints mend of the pose: `rays` puts joints on "
                           "their rays, `body` also gives it the source's mean bone lengths.")
FLIP = flags.DEFINE_bool("flip", False, "Average each step with its mirror image.")
BATCH = flags.DEFINE_integer("batch", 64, "Clips at once.", lower_bound=1)
flags.adopt_module_key_flags(own_keypoints)  # so that --help lists --resolution and its like


def main() -> None:
  if KEYPOINTS.value is None or OUTPUT.value is None:
    raise ValueError("--keypoints and --output are needed: what to lift, and where to")
  output = pathlib.Path(OUTPUT.value).expanduser()
  if output.suffix != ".npz":
    raise ValueError(f"--output={output} does not end in .npz: the poses are written as one")
  for path in filter(None, (output, BVH.value)):
    if not pathlib.Path(path).expanduser().parent.is_dir():
      raise FileNotFoundError(f"the folder of {path} does not exist: make it first")
  found = own_keypoints.read(KEYPOINTS.value)
  if len(found) > 1:
    names = ", ".join(one.report["sequence"] for one in found[:8]) + (", ..." if len(found) > 8 else "")
    raise ValueError(f"{KEYPOINTS.value} holds {len(found)} videos: choose one with --sequence ({names})")
  base, adapter, scale = common.load_weights(RUN.value, WEIGHTS.value, common.BASE.value)
  recording, clip_fps = found[0], base.clip_fps
  config = evaluate.EvaluateConfig(
      num_hypotheses=HYPOTHESES.value, sampling_steps=SAMPLING_STEPS.value, flip=FLIP.value, select=SELECT.value,
      refine=REFINE.value, body=common.known_body(base) if REFINE.value == "body" else (),
      batch_size=BATCH.value, view=base.view, diffusion_steps=base.diffusion_steps,
      hypothesis_chunk=common.HYPOTHESIS_CHUNK.value,
  )
  for warning in (rate_warning := lifter.rate_warning(recording.record, clip_fps)):
    print(f"  warning: {warning}", flush=True)
  lift = lifter.make_lifter(lambda weights: adapt.make_denoiser(base.model, *weights, scale), config)
  lifted = lifter.lift_record(lift, (base.params, adapter), recording.record, clip_fps, base.model.num_frames, config.batch_size)
  metadata = recording.report | {
      "warnings": recording.report["warnings"] + rate_warning,
      "run": RUN.value or common.BASE.value, "weights": "base" if adapter is None else WEIGHTS.value, "base": base.digest,
      "joints": "Human3.6M-17", "axes": "camera: x right, y down, z forward; metres", "root": "solve", "clip_fps": clip_fps,
      "hypotheses": config.num_hypotheses, "sampling_steps": config.sampling_steps, "selection": config.select,
      "refine": config.refine, "flip": config.flip, "seed": config.seed,
  }
  _write(output, recording, lifted, metadata)
  own_keypoints.save_picture(output.with_suffix(".png"), recording, {"lifted": lifted})
  errors = lifted.reprojection_px
  worst = int(np.nanargmax(errors))
  print(f"Reprojection error: mean {np.nanmean(errors):.1f} px, median {np.nanmedian(errors):.1f} px, largest "
        f"{errors[worst]:.1f} px in frame {recording.frames[worst]}. It tells bad input from good; it does not measure depth.")
  written = [str(output), str(output.with_suffix(".png"))]
  if BVH.value:
    path = pathlib.Path(BVH.value).expanduser()
    stray = bvh_writer.write(path, lifted.pose + lifted.root[:, None], float(recording.record["fps"]), BVH_UNIT.value)
    print(f"The BVH file is in {BVH_UNIT.value}, Y up. Its bones have one length, the mean, so joints lie up to "
          f"{1000 * stray:.0f} mm from the npz's.")
    written.append(str(path))
  print(f"{len(errors):,} frames in {', '.join(written)}", flush=True)


def _write(path: pathlib.Path, recording, lifted: lifter.Lifted, metadata: dict) -> None:
  """The npz, written beside its place and renamed when whole."""
  record = recording.record
  arrays = {
      "frame": recording.frames, "pose_root_m": lifted.pose, "pose_camera_m": lifted.pose + lifted.root[:, None],
      "keypoints_px": record["keypoints_px"], "confidence": record["confidence"], "detected": record["valid"],
      "reprojection_px": lifted.reprojection_px, "intrinsics": record["intrinsics"], "resolution": record["resolution"],
      "fps": record["fps"], "metadata": np.array(json.dumps(metadata)),
  }
  if lifted.hypotheses.shape[1] > 1:
    arrays["hypotheses_root_m"] = np.moveaxis(lifted.hypotheses, 1, 0)
  beside = path.with_suffix(".part")
  with open(beside, "wb") as file:
    np.savez_compressed(file, **arrays)
  beside.replace(path)


if __name__ == "__main__":
  common.run(main)
