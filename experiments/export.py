"""Writes a trained lifter as one file for programs without this package.

    python -m experiments.export --output=model.jaxexport
    python -m experiments.export --run=runs/hdm05_wild --output=model.jaxexport --hypotheses=5 --flip
    python -m experiments.export --output=model.onnx

The adapter is merged into the base. `model.jaxexport` runs on CPU, CUDA and TPU at any batch size, in programs with
jax, numpy and flatbuffers only. `model_example.py`, written beside it, calls it. Takes ten seconds with a compact base.

    jaxexport: keypoints [b f j 2], and index [b], the clips' numbers, which give their noise -> poses [b f j 3];
               with a virtual camera also confidence [b f j] and intrinsics [b 9], screen-normalised
    onnx:      keypoints [b f j 2], with a virtual camera confidence and intrinsics, and noise [b f j 3], standard
               normal -> poses [b f j 3]; H = K = 1 only

Keypoints are screen-normalised (x in [-1, 1] across the image, y divided by half the width too), in Human3.6M-17 order.
Poses are root-relative metres, x right, y down, z forward. The metadata in the file repeats this, with clip length f,
frame rate, digests and sampling. ONNX needs jax2onnx, which is not in the requirements; an error gives its command.
"""

import pathlib
import shutil

import jax
from absl import flags

from posynda_jax.geometry import skeleton
from posynda_jax.interop import serving
from posynda_jax.runtime import checkpoint

from . import common, sampling

OUTPUT = flags.DEFINE_string("output", None, "File to write: NAME.jaxexport for jax, NAME.onnx for ONNX runtimes.")
flags.DEFINE_alias("adapter", "run")
for name in ("base", "run", "weights", "hypotheses", "sampling_steps", "flip"):
  flags.declare_key_flag(name)


def main() -> None:
  if OUTPUT.value is None:
    raise ValueError("--output is not given: name the file to write, such as model.jaxexport")
  output = common.output_path(OUTPUT.value)
  if output.suffix not in (".jaxexport", ".onnx"):
    raise ValueError(f"--output={output} ends neither in .jaxexport nor in .onnx: its ending names the form to write")
  if sampling.SELECT.value != "mean" or sampling.REFINE.value != "none":
    raise ValueError("an exported pose is the mean of the hypotheses: leave --select and --refine out")
  weights = sampling.load_weights()
  base, config = weights.base, sampling.config(weights)
  denoise, merged = serving.merge_adapter(base.model, base.params, weights.adapter, weights.config.scale)
  shape = (base.model.num_frames, base.model.num_joints)
  metadata = {
      "num_frames": shape[0], "num_joints": shape[1], "joints": skeleton.JOINTS, "clip_fps": base.clip_fps,
      "keypoints": "[b f j 2] screen-normalised: (2 pixels - (width, height)) / width",
      "poses": "[b f j 3] metres, root-relative (joint 0), camera axes: x right, y down, z forward",
      "weights": weights.name, "base": base.digest,
      "digest": checkpoint.digest(merged), "source": base.config.get("source"), "hypotheses": config.num_hypotheses,
      "selection": config.select, "sampling_steps": config.sampling_steps, "flip": config.flip,
      "diffusion_steps": config.diffusion.num_steps, "noise_std": config.diffusion.noise_std, "jax": jax.__version__,
  }
  if weights.view:
    metadata |= {
        "view": weights.view, "confidence": "[b f j] 0..1, of each keypoint",
        "intrinsics": "[b 9] fx fy cx cy k1 k2 k3 p1 p2, screen-normalised: 2 f / width, centre as a keypoint",
    }
  if output.suffix == ".onnx":
    metadata["noise"] = "[b f j 3] standard normal; the same noise gives the same pose"
    call = serving.make_call(denoise, config, weights.measured)
    serving.save_onnx(output, call, *shape, bool(weights.view), metadata)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, ONNX, any batch size")
    return
  metadata |= {"index": "[b] int32, numbers of the clips, which give their noise", "seed": config.seed}
  exported = serving.export_lift(serving.make_lift(denoise, config, weights.measured), *shape, bool(weights.view))
  serving.save_jaxexport(output, exported, metadata | {"platforms": exported.platforms})
  example = output.with_name(f"{output.stem}_example.py")
  shutil.copyfile(pathlib.Path(__file__).with_name("exported_example.py"), example)
  size, platforms = f"{output.stat().st_size / 1e6:.1f} MB", ", ".join(exported.platforms)
  print(f"{output}: {size} for {platforms}, any batch size; {example} calls it")


if __name__ == "__main__":
  common.run(main)
