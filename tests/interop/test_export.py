"""Exported lifters: the same poses as in-process sampling, in a process that has neither this package nor Flax."""

import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from posynda_jax.adaptation import adapt
from posynda_jax.data import clips
from posynda_jax.diffusion.mixste import MixSTE
from posynda_jax.diffusion.videopose import VideoPose
from posynda_jax.evaluation import evaluate
from posynda_jax.geometry import camera, skeleton
from posynda_jax.interop import serving
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint, runs
from tests import LIGHT, scene

pytest.importorskip("flatbuffers", reason="jax.export's file format needs flatbuffers")
FRAMES = 3
ROOT = pathlib.Path(__file__).parents[2]


def make_weights(model, rule: str = lora.ATTENTION):
  """(model, base, adapter, LoRA scale): every leaf random, variances positive, so that each changes the answer."""
  rng, shape = np.random.default_rng(1), (1, FRAMES, 17)
  leaf = lambda path, leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32) + (path[-1].key == "var")
  draw = lambda tree: jax.tree_util.tree_map_with_path(leaf, tree)
  inputs = np.zeros(shape + (2,)), np.zeros(shape + (3,)), np.zeros(1)
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))
  base = draw({name: variables[name] for name in variables if name in ("params", "batch_stats")})
  config = adapt.AdaptConfig(rank=2, target_rule=rule)
  return model, base, draw(jax.eval_shape(lambda: adapt.init_adapter(jax.random.key(0), base, config))), 0.5


@pytest.fixture(scope="module")
def weights():
  return make_weights(MixSTE(num_frames=FRAMES, width=16, depth=1, num_heads=2))


def keypoints(batch: int) -> np.ndarray:
  return np.random.default_rng(0).uniform(-0.8, 0.8, (batch, FRAMES, 17, 2)).astype(np.float32)


# Denoiser, rule of the adapter, how to sample, and the batch sizes that the one artefact is called with.
CASES = {
    "one call": (MixSTE(num_frames=FRAMES, width=16, depth=1, num_heads=2), lora.ATTENTION, evaluate.EvaluateConfig(), (1, 7)),
    "two mirrored steps of two hypotheses": (
        VideoPose(num_frames=FRAMES, filter_widths=(3, 1), channels=16), lora.EVERYWHERE,
        evaluate.EvaluateConfig(sampling_steps=2, num_hypotheses=2, flip=True), (7,),
    ),
    "plain lifter": (
        MixSTE(num_frames=FRAMES, width=16, depth=1, num_heads=2, diffusion=False), lora.ATTENTION,
        evaluate.EvaluateConfig(), (1,),
    ),
    "virtual camera": (
        MixSTE(num_frames=FRAMES, width=16, depth=1, num_heads=2), lora.ATTENTION,
        evaluate.EvaluateConfig(view=(0.02, -0.1, 0.08, -0.23, 0.2)), (7,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_artefact_gives_the_scored_poses_on_every_platform_at_any_batch_size(name):
  model, rule, config, batches = CASES[name]
  _, params, adapter, scale = make_weights(model, rule)
  denoise, merged = serving.merge(model, params, adapter, scale)
  assert set(merged) == set(params)  # batch statistics too
  exported = serving.export(serving.make_lift(denoise, config), FRAMES, 17, bool(config.view))
  assert exported.platforms == ("cpu", "cuda", "tpu")
  assert str(exported.in_avals[0].shape) == f"(b, {FRAMES}, 17, 2)"
  # jax resolves shape_assertion itself when it learns the batch size; no call into a platform's own code may be left
  assert set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) <= {"shape_assertion"}
  score = evaluate.make_scorer(lambda both: adapt.make_denoiser(model, *both, scale), config, lambda pose, target: {})
  clip = {"keypoints": keypoints(7), "index": np.arange(4, 11, dtype=np.int32), "poses": np.zeros((7, FRAMES, 17, 3), np.float32)}
  confidence = np.random.default_rng(2).uniform(0.2, 1, (7, FRAMES, 17)).astype(np.float32)
  clip |= {"intrinsics": np.tile(scene.INTRINSICS, (7, 1)), "confidence": confidence, "valid": np.ones((7, FRAMES), np.float32)}
  inputs = ("keypoints", "index") + ("confidence", "intrinsics") * bool(config.view)
  wanted, _ = score((params, adapter), clip)
  lift = jax.jit(jax.export.deserialize(bytearray(exported.serialize())).call)
  for batch in batches:  # a clip's pose does not depend on the batch it is in
    found = np.asarray(lift(*(clip[name][:batch] for name in inputs)))
    np.testing.assert_allclose(found, wanted[:batch], atol=1e-5)
    assert np.abs(found[..., skeleton.ROOT, :]).max() == 0
  clip["index"] += 1
  changes = np.abs(lift(*(clip[name][: len(found)] for name in inputs)) - found).max()
  assert changes > 1e-3 if model.diffusion else changes == 0  # but on its index, from which its noise follows


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


def test_the_example_beside_the_file_needs_only_jax(base_folder, tmp_path):
  """`export` of a base on disk, then its example in a process that refuses to import this package: pixels to metres."""
  folder, model, params = base_folder
  output = tmp_path / "model.jaxexport"
  done = run("-m", "experiments.export", f"--base={folder}", f"--output={output}", cwd=ROOT)
  assert done.returncode == 0 and "cpu, cuda, tpu" in done.stdout, done.stderr[-3000:]
  metadata = json.loads(zipfile.ZipFile(output).read("metadata.json"))
  assert metadata["num_frames"] == FRAMES and metadata["clip_fps"] == 12.5 and tuple(metadata["joints"]) == skeleton.JOINTS
  assert metadata["base"] == metadata["digest"] == checkpoint.digest(params) and metadata["sampling_steps"] == 1
  program = jax.export.deserialize(bytearray(zipfile.ZipFile(output).read("lift.jaxexport"))).mlir_module()
  products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]  # scripts ask for float32 on all platforms
  assert products and all("[HIGHEST, HIGHEST]" in line for line in products)

  pixels = np.random.default_rng(0).uniform((300, 100), (900, 700), (4 * FRAMES, 17, 2)).astype(np.float32)
  np.save(tmp_path / "pixels.npy", pixels[:-1])  # the last clip is not full
  done = run("-c", BLOCKED, "model_example.py", output.name, "pixels.npy", "1280x720", "poses.npy", cwd=tmp_path)
  assert done.returncode == 0, done.stderr[-3000:]
  found = np.load(tmp_path / "poses.npy")
  assert found.shape == (4 * FRAMES - 1, 17, 3)
  seen = np.array(camera.normalise_screen(pixels, np.array([1280.0, 720.0])))
  seen[-1] = seen[-2]
  lift = jax.jit(serving.make_lift(serving.merge(model, params, None, 1.0)[0], evaluate.EvaluateConfig()))
  wanted = lift(clips.cut(seen, FRAMES), np.arange(4))
  np.testing.assert_allclose(found, np.asarray(wanted).reshape(-1, 17, 3)[:-1], atol=1e-5)


def test_onnx_gives_the_same_poses_where_the_converter_is_installed(weights, tmp_path):
  pytest.importorskip("jax2onnx", reason=f"optional: {serving.ONNX_INSTALL}")
  runtime = pytest.importorskip("onnxruntime")
  model, params, adapter, scale = weights
  call = serving.make_call(serving.merge(model, params, adapter, scale)[0], evaluate.EvaluateConfig(flip=True))
  path = tmp_path / "model.onnx"
  serving.save_onnx(path, call, FRAMES, 17, {"num_frames": FRAMES})
  session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
  assert json.loads(session.get_modelmeta().custom_metadata_map["posynda_jax"]) == {"num_frames": FRAMES}
  for batch in (1, 7):
    noise = np.random.default_rng(batch).standard_normal((batch, FRAMES, 17, 3)).astype(np.float32)
    (found,) = session.run(["poses"], {"keypoints": keypoints(batch), "noise": noise})
    np.testing.assert_allclose(found, call(keypoints(batch), noise), atol=1e-5)


def test_onnx_is_refused_in_one_line(weights, monkeypatch, tmp_path):
  with pytest.raises(ValueError, match="one denoiser call: --sampling_steps=2"):
    serving.make_call(None, evaluate.EvaluateConfig(sampling_steps=2))
  with pytest.raises(ValueError, match="--view=source"):
    serving.make_call(None, evaluate.EvaluateConfig(view=(0.0, 0.0, 0.0, 0.0, 0.2)))
  monkeypatch.setitem(sys.modules, "jax2onnx", None)
  with pytest.raises(ValueError, match="pip install --no-deps jax2onnx"):
    serving.save_onnx(tmp_path / "model.onnx", None, FRAMES, 17, {})
  assert not list(tmp_path.iterdir())


def run(*arguments: str, cwd) -> subprocess.CompletedProcess:
  environment = os.environ | {"XLA_FLAGS": LIGHT, "JAX_PLATFORMS": "cpu"}
  return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def base_folder(weights, tmp_path):
  """(folder, model, params) of a base as pretraining leaves it."""
  model, params, _, _ = weights
  fields = {"num_frames": FRAMES, "width": 16, "depth": 1, "num_heads": 2, "dtype": "float32"}
  folder = tmp_path / "base"
  runs.Run(folder, {"model": fields, "pretrain": {"diffusion_steps": 1000}, "clip_fps": 12.5, "source": "test"})
  checkpoint.save_tree(folder / "base", params)
  return folder, model, params
