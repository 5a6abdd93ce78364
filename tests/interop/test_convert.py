"""Converted between PyTorch files, run folders and single files: the same bits there and back, merging, the command."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import convert as command
from posynda_jax.adaptation import bases, tensors_file
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.interop import convert, torch_file, torch_names
from posynda_jax.peft import counting, lora
from posynda_jax.runtime import checkpoint, runs
from posynda_jax.runtime.files import write_json
from tests import golden
from tests.interop import torch_files as files
from tests.scripts import run_well


@pytest.mark.parametrize("name", files.PREFIXES)
@pytest.mark.parametrize("ending", ["a.pth", "a.safetensors", "folder"])
def test_golden_weights_there_and_back_are_the_same_bits(tmp_path, name, ending):
  arrays = golden.load(name)
  state = golden.params(arrays)
  path = files.write(tmp_path / "in.bin", files.checkpoint_of(state, files.PREFIXES[name]))
  weights = convert.read(path, hints=files.hints(arrays, clip_fps=25.0))
  convert.write(tmp_path / ending, weights)
  again = convert.read(tmp_path / ending)
  files.assert_same_bits(again.params, weights.params)
  assert again.config == json.loads(json.dumps(weights.config)) and again.config["clip_fps"] == 25.0
  convert.write(tmp_path / "back.bin", again)
  back, prefix = torch_file.load_torch(tmp_path / "back.bin")["model_pos"], files.PREFIXES[name]
  learned = [entry for entry in state if not entry.endswith(torch_names.UNUSED)]
  files.assert_same_bits({entry: back[prefix + entry] for entry in learned}, {entry: state[entry] for entry in learned})


@pytest.mark.parametrize("form", ["folder", "keep.bin", "adapter"])
def test_golden_adapters_there_and_back_are_the_same_bits(tmp_path, form):
  weights = files.golden_run()
  if form == "adapter":
    convert.write(tmp_path / "base.safetensors", weights, part="base")
    convert.write(tmp_path / "a.safetensors", weights)
    again = convert.read(tmp_path / "base.safetensors", adapter=tmp_path / "a.safetensors")
  else:
    convert.write(tmp_path / form, weights, part="keep", bias="beside")
    again = convert.read(tmp_path / form)
  files.assert_same_bits(again.params, weights.params)
  files.assert_same_bits(again.adapter, weights.adapter)
  assert again.settings == json.loads(json.dumps(weights.settings))


def test_golden_lora_checkpoint_is_a_base_and_an_adapter(tmp_path):
  arrays, base_arrays, state = files.golden_lora()
  path = files.write(tmp_path / "a.pth", files.checkpoint_of(state, files.D3DP))
  weights = convert.read(path, hints=files.hints(base_arrays))
  assert counting.count(weights.adapter["lora"]) == int(arrays["n_trainable"])
  assert weights.settings["adapter"]["rank"] == arrays["config"]["r"]
  files.assert_same_bits(weights.params, torch_names.params_from_torch(golden.params(base_arrays)))
  convert.write(tmp_path / "run", weights)
  loaded = bases.load_weights(tmp_path / "run", "adapted")  # as --run= of the scripts
  base, adapter, scale = loaded.base, loaded.adapter, loaded.config.scale
  assert scale == 1.0
  files.assert_same_bits(adapter, weights.adapter)
  assert base.digest == runs.read_config(tmp_path / "run")["base"] == checkpoint.digest(weights.params)
  out = files.predict(base_arrays, base.model, base.params, adapter)
  np.testing.assert_allclose(out, arrays["out"], atol=1e-4, rtol=0)


def test_golden_merged_and_dropped_adapters(tmp_path):
  arrays, base_arrays, _ = files.golden_lora()
  weights = files.golden_run()

  def predict(read: convert.Converted) -> jax.Array:
    return files.predict(base_arrays, make_model(read.config["model"]), read.params, read.adapter)

  error = r"bias \(Eq. 11, up to [0-9.]+ mm\) has no place in MixSTE.*choose --bias=drop\|beside"
  with pytest.raises(ValueError, match=error):
    convert.write(tmp_path / "merged.bin", weights)
  assert not list(tmp_path.glob("*merged*")) and not list(tmp_path.glob(".*"))
  convert.write(tmp_path / "merged.bin", weights, bias="drop")
  convert.write(tmp_path / "folder", weights, part="merge", bias="drop")
  for path in ("merged.bin", "folder"):
    merged = convert.read(tmp_path / path)
    assert merged.adapter is None
    np.testing.assert_allclose(predict(merged), arrays["out"], atol=1e-4, rtol=0)
  convert.write(tmp_path / "beside.bin", weights, bias="beside")
  saved = torch_file.load_torch(tmp_path / "beside.bin")["bias"]
  np.testing.assert_array_equal(saved, weights.adapter["bias"])
  with pytest.raises(ValueError, match="bias beside a network without adapters"):
    convert.read(tmp_path / "beside.bin")
  settings = weights.settings | {"adapter": weights.settings["adapter"] | {"scale": 0.5}}
  half = dataclasses.replace(weights, settings=settings)
  convert.write(tmp_path / "half.bin", half, part="keep", bias="drop")
  again = convert.read(tmp_path / "half.bin")
  assert again.settings["adapter"]["scale"] == 1.0
  np.testing.assert_allclose(predict(again), arrays["out_scale_half"], atol=1e-4, rtol=0)


def test_golden_videopose_takes_its_adapters_bias_into_its_last_layer(tmp_path):
  arrays = golden.load("videopose_small")
  path = files.write(tmp_path / "a.bin", files.checkpoint_of(golden.params(arrays), ""))
  weights = convert.read(path, hints=files.hints(arrays))
  factors = lora.init(jax.random.key(0), weights.params, rank=4, rule=lora.EVERYWHERE)
  adapter = {"lora": factors, "bias": jax.random.normal(jax.random.key(1), arrays["out"].shape[-2:])}
  whole = dataclasses.replace(weights, adapter=adapter, settings={"adapter": {}, "body": [], "view": []})
  convert.write(tmp_path / "merged.bin", whole)
  merged = convert.read(tmp_path / "merged.bin")
  out = files.predict(arrays, make_model(merged.config["model"]), merged.params)
  np.testing.assert_allclose(out, arrays["out"] + adapter["bias"], atol=1e-4, rtol=0)
  with pytest.raises(ValueError, match="--lora=keep is for adapters on every qkv and proj of MixSTE"):
    convert.write(tmp_path / "kept.bin", whole, part="keep")
  model = {**weights.config["model"], "diffusion": True}
  with pytest.raises(ValueError, match="has no PyTorch original"):
    convert.write(tmp_path / "x.bin", dataclasses.replace(weights, config={**weights.config, "model": model}))


def run(*arguments) -> int:
  return command.main([*map(str, arguments)])


def test_golden_networks_are_converted_by_command(tmp_path, capsys):
  arrays = golden.load("mixste_small")
  config, heads = arrays["config"], f"--heads={arrays['config']['num_heads']}"
  files.write(tmp_path / "d3dp.bin", files.checkpoint_of(golden.params(arrays), files.D3DP))
  out = run_well("convert", tmp_path / "d3dp.bin", tmp_path / "base", heads)
  base = bases.load(tmp_path / "base")
  fields = f"num_joints {config['num_joints']}, num_frames {config['num_frame']}, width {config['embed_dim']}"
  for text in (
      f"MixSTE as a diffusion denoiser (D3DP, PoSynDA), under 'model_pos': {fields}", "cosine, T = ", base.digest,
      f"{counting.count(base.params):,} parameters", "50 frames a second (--clip_fps)",
  ):
    assert text in out
  assert run(tmp_path / "base", tmp_path / "half.safetensors", "--dtype=float16") == 0
  assert run(tmp_path / "half.safetensors", tmp_path / "back.pt", "--bias=drop") == 0
  capsys.readouterr()
  for reason, source, output, *options in (
      ("base exists and is not overwritten", "base", "base"), ("none.bin does not exist", "none.bin", "x"),
      ("no does not exist", "base", "no/x.pt"), ("needs no --heads", "base", "x.pt", "--heads=4"),
      ("needs an adapter", "base", "x.pt", "--lora=keep"), ("for .safetensors", "base", "x.pt", "--dtype=float16"),
  ):
    assert run(tmp_path / source, tmp_path / output, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and reason in line


def test_golden_adapters_are_converted_on_their_own_base_by_command(tmp_path, capsys):
  weights = files.golden_run()
  convert.write(tmp_path / "run", weights)
  convert.write(tmp_path / "base", weights, part="base")

  assert run(tmp_path / "run", tmp_path / "adapter.safetensors") == 0
  other = jax.tree.map(lambda leaf: leaf + 1, weights.params)
  tensors_file.save_base(tmp_path / "other.safetensors", other, weights.config)
  for adapter in ("adapter.safetensors", "run"):
    assert run(tmp_path / "other.safetensors", tmp_path / "x", f"--adapter={tmp_path / adapter}") == 1
    assert f"not of {checkpoint.digest(other)}: give the base it was trained on" in capsys.readouterr().err
  config = runs.read_config(tmp_path / "run")
  write_json(tmp_path / "run" / "config.json", {k: v for k, v in config.items() if k != "base_folder"})
  assert run(tmp_path / "run", tmp_path / "x") == 1  # a folder of several adapters
  assert "give the base as INPUT, and --adapter=" in capsys.readouterr().err
  assert run(tmp_path / "base", tmp_path / "again", f"--adapter={tmp_path / 'run'}", "--weights=adapted") == 0
  files.assert_same_bits(convert.read(tmp_path / "again").adapter, weights.adapter)
  assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".*"))


def test_a_failure_leaves_no_file(tmp_path):
  params = {"params": {"x": {"kernel": jnp.ones((2, 2))}}}
  weights = convert.Converted(params, {"model": {"num_frames": 9}, "bad": object()})
  for name in ("a.bin", "a.safetensors", "folder"):
    with pytest.raises((ValueError, TypeError)):
      convert.write(tmp_path / name, weights)
  assert not list(tmp_path.iterdir())
