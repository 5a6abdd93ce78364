"""Exported lifters: the same poses as in-process sampling, in a process without this package and Flax."""

import json
import os
import re
import subprocess
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import adapters, tensors_file
from posynda_jax.data import clips
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.evaluation import scoring
from posynda_jax.geometry import camera, measured, skeleton, virtual_camera
from posynda_jax.interop import serving
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint
from tests import LIGHT, scene, tiny
from tests.scripts import run_well
from tests.tolerance import assert_close

pytest.importorskip("flatbuffers", reason="jax.export's file format needs flatbuffers")
FRAMES = 3
FIELDS = {"num_frames": FRAMES, "width": 16, "depth": 1, "num_heads": 2}


def make_weights(model, rule: str = lora.ATTENTION):
  """(base, adapter) with every leaf random, so that each leaf changes the poses."""
  shape = (1, FRAMES, 17)
  inputs = np.zeros(shape + (getattr(model, "inputs", 2),)), np.zeros(shape + (3,)), np.zeros(1)
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
  base = scene.draw({name: variables[name] for name in variables if name in ("params", "batch_stats")})
  adapter = {"lora": lora.init(jax.random.key(0), base, rank=2, rule=rule), "bias": jnp.zeros((17, 3))}
  return base, scene.draw(adapter)


def keypoints(batch: int) -> np.ndarray:
  return np.random.default_rng(0).uniform(-0.8, 0.8, (batch, FRAMES, 17, 2)).astype(np.float32)


# Denoiser, rule of the adapter, sampling, view of the virtual camera, and the batch sizes of the calls.
CASES = {
    "two mirrored steps of two hypotheses": (
        VideoPose(num_frames=FRAMES, filter_widths=(3, 1), channels=16), lora.EVERYWHERE,
        scoring.SamplingConfig(sampling_steps=2, num_hypotheses=2, flip=True), (), (7,),
    ),
    "plain lifter": (MixSTE(**FIELDS, diffusion=False), lora.ATTENTION, scoring.SamplingConfig(), (), (1,)),
    "virtual camera": (
        MixSTE(**FIELDS), lora.ATTENTION, scoring.SamplingConfig(), (0.02, -0.1, 0.08, -0.23, 0.2), (1, 7),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_artefact_gives_the_scored_poses_on_every_platform_at_any_batch_size(name):
  model, rule, config, view, batches = CASES[name]
  params, adapter = make_weights(model, rule)
  denoise, merged = serving.merge_adapter(model, params, adapter, 0.5)
  assert set(merged) == set(params)  # batch statistics too
  exported = serving.export_lift(serving.make_lift(denoise, config, measured.make(view=view)), FRAMES, 17, bool(view))
  assert exported.platforms == ("cpu", "cuda", "tpu")
  assert str(exported.in_avals[0].shape) == f"(b, {FRAMES}, 17, 2)"
  # jax itself resolves shape_assertion when it has the batch size. Any other call needs one platform's own code.
  assert set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) <= {"shape_assertion"}
  score = scoring.make_scorer(lambda both: adapters.make_denoiser(model, *both, 0.5), config, lambda pose, target: {})
  clip = {
      "keypoints": keypoints(7), "index": np.arange(4, 11, dtype=np.int32), "valid": np.ones((7, FRAMES), np.float32),
      "poses": np.zeros((7, FRAMES, 17, 3), np.float32), "intrinsics": np.tile(scene.INTRINSICS, (7, 1)),
      "confidence": np.random.default_rng(2).uniform(0.2, 1, (7, FRAMES, 17)).astype(np.float32),
  }
  inputs = ("keypoints", "index") + ("confidence", "intrinsics") * bool(view)
  scored, _ = score((params, adapter), measured.make(view=view), clip)
  lift = jax.jit(jax.export.deserialize(bytearray(exported.serialize())).call)
  for batch in batches:  # a clip's pose is the same in any batch
    found = np.asarray(lift(*(clip[name][:batch] for name in inputs)))
    assert_close(found, np.asarray(scored)[:batch])
    assert np.abs(found[..., skeleton.ROOT, :]).max() == 0
  clip["index"] += 1
  changes = np.abs(lift(*(clip[name][: len(found)] for name in inputs)) - found).max()
  assert changes > 1e-3 if model.diffusion else changes == 0  # the noise of a clip follows from its index


BLOCKED = """
import runpy, sys
class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in ("posynda_jax", "experiments", "flax", "optax", "orbax", "grain"):
      raise ImportError(f"{name} is not there")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: str, cwd) -> str:
  environment = os.environ | {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, *arguments]
  done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def test_the_example_beside_the_file_needs_only_jax(tmp_path):
  """Pixels to metres by the example of an exported base, in a process that refuses to import this package."""
  (model, params), output = scene.tiny_model(FRAMES), tmp_path / "model.jaxexport"
  tensors_file.save_base(tmp_path / "base.safetensors", params, tiny.CONFIG)
  said = run_well("export", f"--base={tmp_path / 'base.safetensors'}", f"--output={output}")
  assert "cpu, cuda, tpu" in said
  with zipfile.ZipFile(output) as archive:
    metadata = json.loads(archive.read("metadata.json"))
    program = jax.export.deserialize(bytearray(archive.read("lift.jaxexport"))).mlir_module()
  assert metadata["num_frames"] == FRAMES and metadata["clip_fps"] == 12.5 and metadata["sampling_steps"] == 1
  assert metadata["base"] == metadata["digest"] == checkpoint.digest(params)
  assert tuple(metadata["joints"]) == skeleton.JOINTS
  products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
  assert products and all("[HIGHEST, HIGHEST]" in line for line in products)  # float32 on all platforms

  pixels = np.random.default_rng(0).uniform((300, 100), (900, 700), (4 * FRAMES, 17, 2)).astype(np.float32)
  np.save(tmp_path / "pixels.npy", pixels[:-1])  # the last clip is not full
  run("-c", BLOCKED, "model_example.py", output.name, "pixels.npy", "1280x720", "poses.npy", cwd=tmp_path)
  found = np.load(tmp_path / "poses.npy")
  normalised = np.array(camera.normalise_screen(pixels, np.array([1280.0, 720.0])))
  normalised[-1] = normalised[-2]
  denoise, _ = serving.merge_adapter(model, params, None, 1.0)
  poses = jax.jit(serving.make_lift(denoise, scoring.SamplingConfig()))(clips.cut(normalised, FRAMES), np.arange(4))
  assert_close(found, np.asarray(poses).reshape(-1, 17, 3)[:-1])


@pytest.mark.parametrize("view", [False, True])
def test_onnx_gives_the_same_poses_where_the_converter_is_installed(view, tmp_path):
  pytest.importorskip("jax2onnx", reason=f"optional: {serving.ONNX_INSTALL}")
  runtime = pytest.importorskip("onnxruntime")
  model = MixSTE(**FIELDS | {"inputs": virtual_camera.CHANNELS if view else 2})
  denoise, _ = serving.merge_adapter(model, *make_weights(model), 0.5)
  seen = measured.make(view=virtual_camera.CANONICAL, inputs=virtual_camera.CHANNELS) if view else measured.Measured()
  call = serving.make_call(denoise, scoring.SamplingConfig(flip=True), seen)
  path = tmp_path / "model.onnx"
  serving.save_onnx(path, call, FRAMES, 17, view, {"num_frames": FRAMES})
  session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
  assert json.loads(session.get_modelmeta().custom_metadata_map["posynda_jax"]) == {"num_frames": FRAMES}
  for batch in (1, 7):
    clip = {"keypoints": keypoints(batch)}
    if view:
      clip["confidence"] = np.ones((batch, FRAMES, 17), np.float32)
      clip["intrinsics"] = np.tile(scene.INTRINSICS, (batch, 1))
    clip["noise"] = np.random.default_rng(batch).standard_normal((batch, FRAMES, 17, 3)).astype(np.float32)
    (found,) = session.run(["poses"], clip)
    assert_close(found, call(*clip.values()))


def test_onnx_is_refused_in_one_line(monkeypatch, tmp_path):
  with pytest.raises(ValueError, match="one denoiser call: --sampling_steps=2"):
    serving.make_call(None, scoring.SamplingConfig(sampling_steps=2))
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  with pytest.raises(ValueError, match="pip install --no-deps jax2onnx"):
    serving.save_onnx(tmp_path / "model.onnx", None, FRAMES, 17, False, {})
  assert not list(tmp_path.iterdir())
