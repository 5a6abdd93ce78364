"""A lifter as one file for programs without this package.

A `.jaxexport` file is a zip of `lift.jaxexport`, which `jax.export` writes, and of `metadata.json`, which describes
inputs and outputs. The program is StableHLO for CPU, CUDA and TPU, with the weights inside and any batch size;
`experiments/exported_example.py` calls it. An ONNX file holds one hypothesis of one step and the same metadata.
"""

import json
import logging
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import PyTree

from posynda_jax.adaptation import adapters
from posynda_jax.diffusion import process, sampler
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import skeleton, virtual_camera
from posynda_jax.geometry.measured import Measured, see
from posynda_jax.runtime import files

PLATFORMS = ("cpu", "cuda", "tpu")
# --no-deps, because jax2onnx 0.17 requires an older Orbax than ours. The list holds its other imports.
ONNX_INSTALL = "pip install --no-deps jax2onnx==0.17.1 onnx onnx-ir onnxruntime equinox dm-pix sympy mpmath"


def merge_adapter(model, params: PyTree, adapter: PyTree | None, scale: float) -> tuple[sampler.Denoiser, PyTree]:
  """(denoiser with the adapter merged into the kernels and the bias of Eq. 11 added, the merged variables)."""
  merged = params if adapter is None else adapters.merge(params, adapter, scale)
  bias = 0.0 if adapter is None else jnp.asarray(adapter["bias"])
  return lambda keypoints, noisy, t: model.apply(merged, keypoints, noisy, t) + bias, merged


def make_lift(denoise: sampler.Denoiser, config: scoring.SamplingConfig, measured=Measured()) -> Callable:
  """`(keypoints [b f j 2], index [b]) -> poses [b f j 3]`: root-relative metres, the mean of H hypotheses.

  With `measured.view`, it also takes `confidence` [b f j] and `intrinsics` [b 9], for the virtual camera. Keypoints
  and intrinsics are screen-normalised. A clip's noise depends on the config's seed and the clip's index only, so the
  poses are those of `scoring`; another index gives another hypothesis.
  """
  key = jax.random.key(config.seed, impl="threefry2x32")  # gives the same bits on every platform

  def lift(keypoints, index, confidence=None, intrinsics=None):
    clip = _make_clip(keypoints, confidence, intrinsics) | {"index": index}
    return skeleton.root_centre(scoring.propose(denoise, measured, clip, key, config).mean(0))

  return lift


def _make_clip(keypoints, confidence, intrinsics) -> dict:
  """A batch of clips of whole frames; None: not needed."""
  if confidence is None:
    return {"keypoints": keypoints}
  valid = jnp.ones_like(confidence[..., 0])
  return {"keypoints": keypoints, "confidence": confidence, "intrinsics": intrinsics, "valid": valid}


def export_lift(lift: Callable, num_frames: int, num_joints: int, view: bool = False) -> jax.export.Exported:
  """The program of `lift` for PLATFORMS, on any machine, with an open batch size; `view` as in its config."""
  (b,) = jax.export.symbolic_shape("b")
  shapes = _shapes(b, num_frames, num_joints, view)
  inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes.values()]
  inputs.insert(1, jax.ShapeDtypeStruct((b,), jnp.int32))
  return jax.export.export(jax.jit(lift), platforms=PLATFORMS)(*inputs)


def _shapes(b, num_frames: int, num_joints: int, view: bool) -> dict[str, tuple]:
  """Shapes of the inputs that describe a batch of clips, by name."""
  seen = {"confidence": (b, num_frames, num_joints), "intrinsics": (b, 9)} if view else {}
  return {"keypoints": (b, num_frames, num_joints, 2), **seen}


def save_jaxexport(path, exported: jax.export.Exported, metadata: dict[str, Any]) -> None:
  """Writes the zip of the program and its metadata."""
  with files.writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("metadata.json", json.dumps(metadata, indent=2))
    archive.writestr("lift.jaxexport", bytes(exported.serialize()))


def make_call(denoise: sampler.Denoiser, config: scoring.SamplingConfig, measured=Measured()) -> Callable:
  """`(keypoints [b f j 2], noise [b f j 3]) -> poses [b f j 3]`: one denoiser call, which is sampling with K = H = 1.

  With `measured.view`: `(keypoints, confidence [b f j], intrinsics [b 9], noise)`. Raises ValueError for other K, H.
  """
  if (config.sampling_steps, config.num_hypotheses) != (1, 1):
    raise ValueError(
        f"an ONNX file holds one denoiser call: --sampling_steps={config.sampling_steps} "
        f"--hypotheses={config.num_hypotheses} need a .jaxexport file; other noise gives other hypotheses"
    )
  denoise = sampler.with_flip(denoise) if config.flip else denoise

  def call(keypoints, *others):
    *of_view, noise = others
    seen = see(_make_clip(keypoints, *of_view or (None, None)), measured)
    last, std = config.diffusion.num_steps - 1, config.diffusion.noise_std
    t = (0 * noise[:, 0, 0, 0]).astype(jnp.int32) + last  # jax2onnx lacks jnp.full of open size
    pose = process.clamp(denoise(seen["inputs"], process.clamp(std * noise), t))
    return skeleton.root_centre(virtual_camera.to_camera_axes(pose, seen["rotation"]) if of_view else pose)

  return call


def save_onnx(path, call: Callable, num_frames: int, num_joints: int, view: bool, metadata: dict[str, Any]) -> None:
  """Writes `call` as ONNX with an open batch size. Raises ValueError with the command that installs jax2onnx."""
  try:
    import jax2onnx
    import onnx
  except ImportError as error:
    raise ValueError(f"writing ONNX needs packages that are not installed ({error}): {ONNX_INSTALL}") from error
  logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns about each open shape
  shapes = _shapes("b", num_frames, num_joints, view) | {"noise": ("b", num_frames, num_joints, 3)}
  model = jax2onnx.to_onnx(call, list(shapes.values()), input_names=list(shapes), output_names=["poses"])
  onnx.helper.set_model_props(model, {"posynda_jax": json.dumps(metadata)})
  with files.writing(path) as file:
    file.write(model.SerializeToString())
