"""A lifter as one file that programs without this package can call.

`lift.jaxexport` is what `jax.export` writes: StableHLO for CPU, CUDA and TPU with the weights inside and the batch size left
open. It lies in a zip beside `metadata.json`, which tells what goes in and what comes out. `experiments/exported_example.py`
reads it. An ONNX file, for other runtimes, holds one denoiser call and the same metadata.
"""

import json
import logging
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from posynda_jax.adaptation import adapt
from posynda_jax.diffusion import process, sampler
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import skeleton

PLATFORMS = ("cpu", "cuda", "tpu")
# jax2onnx 0.17 asks for an Orbax older than ours, so pip must not follow its list; these are what it really imports beside ours.
ONNX_INSTALL = "pip install --no-deps jax2onnx==0.17.1 onnx onnx-ir onnxruntime equinox dm-pix sympy mpmath"


def merge(model, params: PyTree, adapter: PyTree | None, scale: float) -> tuple[sampler.Denoiser, PyTree]:
  """P_theta with the low-rank update folded into the kernels and the bias of Eq. 11 added, and the folded variables."""
  merged = params if adapter is None else adapt.merge(params, adapter, scale)
  bias = 0.0 if adapter is None else jnp.asarray(adapter["bias"])
  return lambda keypoints, noisy, t: model.apply(merged, keypoints, noisy, t) + bias, merged


def make_lift(denoise: sampler.Denoiser, config: evaluate.EvaluateConfig) -> Callable:
  """`(keypoints [b f j 2], index [b]) -> poses [b f j 3]`: root-relative metres, the mean of H hypotheses.

  With a view in the config it takes `confidence` [b f j] and `intrinsics` [b 9] too, which tell the virtual camera where to look.
  Keypoints and intrinsics are screen-normalised. The noise of a clip follows from the config's seed and the clip's index alone, so that the
  poses are those that `evaluate` scores and `lift` writes; another index is another hypothesis.
  """
  key = jax.random.key(config.seed, impl="threefry2x32")  # the one whose bits are the same on every platform

  def lift(keypoints, index, confidence=None, intrinsics=None):
    clip = {"keypoints": keypoints, "index": index}
    if config.view:
      clip |= {"confidence": confidence, "intrinsics": intrinsics, "valid": jnp.ones_like(confidence[..., 0])}
    return skeleton.root_centre(evaluate.lift(denoise, clip, key, config).mean(0))

  return lift


def export(lift: Callable, num_frames: int, num_joints: int, view: bool = False) -> jax.export.Exported:
  """`lift`, of a config with a `view` or without, for every one of PLATFORMS and any batch size, whatever machine this is."""
  (b,) = jax.export.symbolic_shape("b")
  array = lambda *sizes, dtype=jnp.float32: jax.ShapeDtypeStruct((b, *sizes), dtype)
  inputs = [array(num_frames, num_joints, 2), array(dtype=jnp.int32)] + [array(num_frames, num_joints), array(9)] * view
  return jax.export.export(jax.jit(lift), platforms=PLATFORMS)(*inputs)


def save(path, exported: jax.export.Exported, metadata: dict[str, Any]) -> None:
  """Writes the zip beside its place and renames it when whole."""
  path = pathlib.Path(path)
  beside = path.with_suffix(".part")
  with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("metadata.json", json.dumps(metadata, indent=2))
    archive.writestr("lift.jaxexport", bytes(exported.serialize()))
  beside.replace(path)


def make_call(denoise: sampler.Denoiser, config: evaluate.EvaluateConfig) -> Callable:
  """`(keypoints [b f j 2], noise [b f j 3]) -> poses [b f j 3]`: the one denoiser call that K = 1 and H = 1 need.

  Raises ValueError for other K and H, and for a view.
  """
  if config.view:
    raise ValueError("an ONNX file holds the denoiser alone, this adapter wants a virtual camera before it (--view=source): export it "
                     "as a .jaxexport file")
  if (config.sampling_steps, config.num_hypotheses) != (1, 1):
    raise ValueError(
        f"an ONNX file holds one denoiser call: --sampling_steps={config.sampling_steps} --hypotheses={config.num_hypotheses} "
        "are for a .jaxexport file; leave both at 1 and call the file with other noise for other hypotheses"
    )
  denoise = sampler.with_flip(denoise) if config.flip else denoise

  def call(keypoints: Float[Array, "b f j 2"], noise: Float[Array, "b f j 3"]) -> Float[Array, "b f j 3"]:
    t = (0 * noise[:, 0, 0, 0]).astype(jnp.int32) + (config.diffusion_steps - 1)  # jax2onnx makes no jnp.full of an open size
    return skeleton.root_centre(process.clamp(denoise(keypoints, process.clamp(noise), t)))

  return call


def save_onnx(path, call: Callable, num_frames: int, num_joints: int, metadata: dict[str, Any]) -> None:
  """Writes `call` as ONNX with an open batch size. Raises ValueError that says what to install where jax2onnx is not."""
  try:
    import jax2onnx
    import onnx
  except ImportError as error:
    raise ValueError(f"writing ONNX needs packages that are not installed ({error}): {ONNX_INSTALL}") from error
  logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it tells of every shape that stays open
  shape = ("b", num_frames, num_joints)
  model = jax2onnx.to_onnx(call, [shape + (2,), shape + (3,)], input_names=["keypoints", "noise"], output_names=["poses"])
  onnx.helper.set_model_props(model, {"posynda_jax": json.dumps(metadata)})
  beside = pathlib.Path(path).with_suffix(".part")
  beside.write_bytes(model.SerializeToString())
  beside.replace(path)
