"""A lifter as one file for programs without this package.

A `.jaxexport` file is a zip of `lift.jaxexport`, which `jax.export` writes, and of `metadata.json`, which describes
inputs and outputs. The program is StableHLO for CPU, CUDA and TPU, with the weights inside and any batch size;
`experiments/exported_example.py` calls it. An ONNX file holds one denoiser call and the same metadata.
"""

import json
import logging
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from posynda_jax.adaptation import adapters
from posynda_jax.diffusion import process, sampler
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import skeleton
from posynda_jax.geometry.measured import Measured
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
    clip = {"keypoints": keypoints, "index": index}
    if measured.view is not None:
      valid = jnp.ones_like(confidence[..., 0])
      clip |= {"confidence": confidence, "intrinsics": intrinsics, "valid": valid}
    return skeleton.root_centre(scoring.propose(denoise, measured, clip, key, config).mean(0))

  return lift


def export_lift(lift: Callable, num_frames: int, num_joints: int, view: bool = False) -> jax.export.Exported:
  """The program of `lift` for PLATFORMS, on any machine, with an open batch size; `view` as in its config."""
  (b,) = jax.export.symbolic_shape("b")
  shapes = [(num_frames, num_joints, 2), (), (num_frames, num_joints), (9,)][: 4 if view else 2]
  inputs = [jax.ShapeDtypeStruct((b, *shape), jnp.float32 if shape else jnp.int32) for shape in shapes]
  return jax.export.export(jax.jit(lift), platforms=PLATFORMS)(*inputs)


def save_jaxexport(path, exported: jax.export.Exported, metadata: dict[str, Any]) -> None:
  """Writes the zip of the program and its metadata."""
  with files.writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("metadata.json", json.dumps(metadata, indent=2))
    archive.writestr("lift.jaxexport", bytes(exported.serialize()))


def make_call(denoise: sampler.Denoiser, config: scoring.SamplingConfig, view: tuple[float, ...] = ()) -> Callable:
  """`(keypoints [b f j 2], noise [b f j 3]) -> poses [b f j 3]`: one denoiser call, which is sampling with K = H = 1.

  Raises ValueError for other K and H, and for a view.
  """
  if view or (config.sampling_steps, config.num_hypotheses) != (1, 1):
    camera = " and a virtual camera" if view else ""
    raise ValueError(
        f"an ONNX file holds one denoiser call: --sampling_steps={config.sampling_steps} "
        f"--hypotheses={config.num_hypotheses}{camera} need a .jaxexport file; other noise gives other hypotheses"
    )
  denoise = sampler.with_flip(denoise) if config.flip else denoise

  def call(keypoints: Float[Array, "b f j 2"], noise: Float[Array, "b f j 3"]) -> Float[Array, "b f j 3"]:
    last, std = config.diffusion.num_steps - 1, config.diffusion.noise_std
    t = (0 * noise[:, 0, 0, 0]).astype(jnp.int32) + last  # jax2onnx lacks jnp.full of open size
    return skeleton.root_centre(process.clamp(denoise(keypoints, process.clamp(std * noise), t)))

  return call


def save_onnx(path, call: Callable, num_frames: int, num_joints: int, metadata: dict[str, Any]) -> None:
  """Writes `call` as ONNX with an open batch size. Raises ValueError with the command that installs jax2onnx."""
  try:
    import jax2onnx
    import onnx
  except ImportError as error:
    raise ValueError(f"writing ONNX needs packages that are not installed ({error}): {ONNX_INSTALL}") from error
  logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns about each open shape
  shapes = [("b", num_frames, num_joints, size) for size in (2, 3)]
  model = jax2onnx.to_onnx(call, shapes, input_names=["keypoints", "noise"], output_names=["poses"])
  onnx.helper.set_model_props(model, {"posynda_jax": json.dumps(metadata)})
  with files.writing(path) as file:
    file.write(model.SerializeToString())
