"""Weights between PyTorch files, run folders and single files: parity through files, identity there and back, refusals."""

import collections
import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import common
from posynda_jax.adaptation import adapt, bases, tensors_file
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.geometry import skeleton
from posynda_jax.interop import __main__ as command
from posynda_jax.interop import convert, torch_checkpoint, torch_names, torch_networks, torch_schedule, torch_writer
from posynda_jax.peft import lora
from posynda_jax.runtime import checkpoint, runs
from tests import golden
from tests.interop.test_torch_checkpoint import legacy
from tests.test_golden import over_hypotheses

CHECKPOINTS = {"mixste_small": "module.pose_estimator.", "mixste_mid": "module.pose_estimator.", "mixste_orig_small": "module.",
               "mixste_full": "module.pose_estimator.", "videopose_small": ""}
SMALL = ("mixste_small", "mixste_orig_small", "videopose_small")


def checkpoint_of(state, prefix, num_steps=1000) -> dict:
  """A state dict as the original code saves it, beside what else it saves."""
  buffers = torch_schedule.buffers(num_steps) if "pose_estimator" in prefix else {}
  model_pos = {f"module.{name}": value for name, value in buffers.items()}
  model_pos |= {prefix + name: value for name, value in state.items()}
  return {"epoch": 9, "lr": 1e-4, "optimizer": {"state": {0: {"exp_avg": np.zeros(3, np.float32)}}},
          "random_state": np.zeros(624, np.uint8), "model_pos": collections.OrderedDict(model_pos)}


def write(path, value, container="zip"):
  path.write_bytes(legacy(value)) if container == "legacy" else torch_writer.save(path, value)
  return path


def lora_state():
  """The golden adapters in their base, as PoSynDA's code holds them after injection."""
  arrays = golden.load("lora_small")
  base = golden.load(arrays["config"].get("base", "mixste_small.npz").removesuffix(".npz"))
  stored = {name.removeprefix("lora/"): value for name, value in arrays.items() if name.startswith("lora/")}
  return arrays, base, torch_names.inject(golden.params(base), stored)


def answer(arrays: dict, model, params, adapter=None):
  """The network's answer to a golden file's inputs: [b (h) f j 3], of VideoPose in the unpadded form."""
  if "x_3d" in arrays:
    return over_hypotheses(adapt.make_denoiser(model, params, adapter, 1.0), arrays)
  return model.apply(params, arrays["x_2d"], **({"form": "valid"} if hasattr(model, "filter_widths") else {}))


def assert_trees_equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y), strict=True), a, b)


def small_run(folder):
  """A converted golden adaptation run, with a bias that is not zero."""
  _, _, state = lora_state()
  weights = convert.read(write(folder / "posynda.bin", checkpoint_of(state, CHECKPOINTS["mixste_small"])))
  bias = 0.01 * jax.random.normal(jax.random.key(0), (17, 3))
  return dataclasses.replace(weights, adapter={**weights.adapter, "bias": bias})


@pytest.mark.parametrize("name, container", [(name, "legacy" if name in SMALL else "zip") for name in CHECKPOINTS])
def test_golden_outputs_through_checkpoint_files(tmp_path, name, container):
  arrays = golden.load(name)
  weights = convert.read(write(tmp_path / "a.bin", checkpoint_of(golden.params(arrays), CHECKPOINTS[name]), container))
  config = arrays["config"]
  model = make_model(weights.config["model"])
  if name == "videopose_small":
    assert model.filter_widths == tuple(config["filter_widths"]) and model.channels == config["channels"] and not model.diffusion
    assert model.num_frames == config["receptive_field"]
  else:
    fields = (model.num_frames, model.num_joints, model.width, model.depth, model.num_heads, model.mlp_ratio, model.diffusion)
    expected = (config[key] for key in ("num_frame", "num_joints", "embed_dim", "depth", "num_heads", "mlp_ratio"))
    assert fields == (*expected, "x_3d" in arrays)
  convert.write(tmp_path / "base", weights)
  base = bases.load(tmp_path / "base")
  assert_trees_equal(base.params, jax.tree.map(jnp.asarray, torch_names.params_from_torch(golden.params(arrays))))
  if name == "mixste_mid":  # these parameters' answers are tests/test_golden.py's; one size between the others is enough there
    return
  np.testing.assert_allclose(answer(arrays, base.model, base.params), arrays["out"], atol=1e-4, rtol=0)


def test_golden_lora_checkpoint_is_a_base_and_an_adapter(tmp_path):
  arrays, base_arrays, state = lora_state()
  weights = convert.read(write(tmp_path / "a.pth", checkpoint_of(state, CHECKPOINTS["mixste_small"])))
  assert lora.count(weights.adapter["lora"]) == int(arrays["n_trainable"]) and weights.settings["rank"] == arrays["config"]["r"]
  plain = torch_names.params_from_torch(golden.params(base_arrays))
  assert_trees_equal(weights.params, jax.tree.map(jnp.asarray, plain))
  convert.write(tmp_path / "run", weights)
  base, adapter, scale = common.load_weights(tmp_path / "run", "adapted")  # what the scripts' --run takes
  again = convert.read(tmp_path / "run")
  assert scale == 1.0
  assert_trees_equal(adapter, weights.adapter)
  assert base.digest == runs.read_config(tmp_path / "run")["base"] == checkpoint.digest(weights.params)
  assert_trees_equal(again.adapter, weights.adapter)
  np.testing.assert_allclose(answer(base_arrays, base.model, base.params, again.adapter), arrays["out"], atol=1e-4, rtol=0)


def test_golden_checkpoint_names_are_those_of_the_original_code(tmp_path):
  arrays = golden.load("mixste_full")
  names = {key: [str(name) for name in arrays[f"{key}_checkpoint_names"]] for key in ("d3dp", "posynda")}
  shapes = lambda key: [tuple(int(n) for n in shape if n) for shape in arrays[f"{key}_checkpoint_shapes"]]
  hollow = {name: np.zeros(shape, np.float32) for name, shape in zip(names["posynda"], shapes("posynda"))}
  schedule = torch_schedule.buffers(1000)
  hollow |= {name: schedule[name.removeprefix("module.")] for name in names["d3dp"] if "pose_estimator" not in name}
  weights = convert.read(write(tmp_path / "in.bin", {"model_pos": hollow, "model_weight": {"other": np.zeros(3)}}))
  for key, part in (("d3dp", "base"), ("posynda", "keep")):
    convert.write(tmp_path / f"{key}.bin", weights, part=part)
    state = torch_checkpoint.load(tmp_path / f"{key}.bin")["model_pos"]
    assert list(state) == names[key] and [value.shape for value in state.values()] == shapes(key)
  dtypes = [str(dtype) for dtype in arrays["d3dp_checkpoint_dtypes"]]
  assert [str(value.dtype) for value in torch_checkpoint.load(tmp_path / "d3dp.bin")["model_pos"].values()] == dtypes
  original = golden.load("mixste_orig_full")
  shapes = zip(original["param_names"], original["param_shapes"], strict=True)
  hollow = {f"module.{name}": np.zeros(tuple(int(n) for n in shape if n), np.float32) for name, shape in shapes}
  convert.write(tmp_path / "plain.bin", convert.read(write(tmp_path / "orig.bin", hollow)))
  assert list(torch_checkpoint.load(tmp_path / "plain.bin")["model_pos"]) == [str(name) for name in original["checkpoint_names"]]


def test_golden_schedule_buffers():
  arrays = golden.load("diffusion_schedule")
  for num_steps in (100, 1000):
    buffers = torch_schedule.buffers(num_steps)
    for name in ("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
                 "sqrt_recipm1_alphas_cumprod", "posterior_variance"):
      np.testing.assert_allclose(buffers[name], arrays[f"T{num_steps}/{name}"], rtol=1e-10, atol=1e-12)
    assert len(buffers) == 12 and all(value.dtype == np.float64 and np.isfinite(value).all() for value in buffers.values())
    x_0, x_t, t = 0.3, -0.7, num_steps // 2  # the mean of q(x_{t-1} | x_t, x_0), as Bayes gives it
    beta, before = buffers["betas"][t], buffers["alphas_cumprod_prev"][t]
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (np.sqrt(1 - beta) / beta * x_t + np.sqrt(before) / (1 - before) * x_0) / precision
    weighed = buffers["posterior_mean_coef1"][t] * x_0 + buffers["posterior_mean_coef2"][t] * x_t
    np.testing.assert_allclose(weighed, mean, rtol=1e-9)
    np.testing.assert_allclose(np.exp(buffers["posterior_log_variance_clipped"][t]), 1 / precision, rtol=1e-9)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("ending", ["a.bin", "a.pt", "a.pth", "a.safetensors", "folder"])
def test_golden_weights_there_and_back_are_the_same_bits(tmp_path, name, ending):
  state = golden.params(golden.load(name))
  told = convert.Told(heads=4 if name == "mixste_small" else None, clip_fps=25.0)
  weights = convert.read(write(tmp_path / "in.bin", checkpoint_of(state, CHECKPOINTS[name])), told=told)
  convert.write(tmp_path / ending, weights)
  again = convert.read(tmp_path / ending)
  assert_trees_equal(again.params, weights.params)
  assert again.config == json.loads(json.dumps(weights.config)) and again.config["clip_fps"] == 25.0
  convert.write(tmp_path / "bare.pt", again, layout="bare")
  bare = torch_checkpoint.load(tmp_path / "bare.pt")
  assert set(bare) == set(state)
  for entry, value in bare.items():
    if not entry.endswith("num_batches_tracked"):
      np.testing.assert_array_equal(value, state[entry], strict=True)


@pytest.mark.parametrize("form", ["folder", "keep.bin", "adapter"])
def test_golden_adapters_there_and_back_are_the_same_bits(tmp_path, form):
  weights = small_run(tmp_path)
  if form == "adapter":
    convert.write(tmp_path / "base.safetensors", weights, part="base")
    convert.write(tmp_path / "a.safetensors", weights)
    again = convert.read(tmp_path / "base.safetensors", adapter=tmp_path / "a.safetensors")
  else:
    convert.write(tmp_path / form, weights, part="keep", bias="beside")
    again = convert.read(tmp_path / form)
  assert_trees_equal(again.params, weights.params)
  assert_trees_equal(again.adapter, weights.adapter)
  assert adapt.AdaptConfig(**again.settings) == adapt.AdaptConfig(**weights.settings)


def test_golden_joint_order_is_changed_exactly(tmp_path):
  """A network trained in MPI-INF-3DHP's order of joints answers, in ours, what it answered in its own."""
  order = np.array(skeleton.ORDERS["dhp17"])
  for name in ("mixste_orig_small", "videopose_small"):
    arrays = golden.load(name)
    path = write(tmp_path / f"{name}.bin", checkpoint_of(golden.params(arrays), CHECKPOINTS[name]))
    weights = convert.read(path, told=convert.Told(joint_order="dhp17"))
    assert "assumed" not in "".join(weights.notes) or "joint order" not in "".join(weights.notes)
    ours = {**arrays, **{key: arrays[key][..., order, :] for key in ("x_2d", "x_3d") if key in arrays}}
    out = answer(ours, make_model(weights.config["model"]), weights.params)
    np.testing.assert_allclose(out, arrays["out"][..., order, :], atol=1e-4, rtol=0)
    assert "Human3.6M's joint order (--joint_order;" in convert.read(path).notes[-1]
  with pytest.raises(ValueError, match="joint order 'coco' is unknown; choose one of h36m17, dhp17"):
    convert.read(path, told=convert.Told(joint_order="coco"))


def test_golden_merged_and_dropped_adapters(tmp_path):
  arrays, base_arrays, _ = lora_state()
  weights = small_run(tmp_path)
  with pytest.raises(ValueError, match=r"bias \(Eq. 11, up to [0-9.]+ mm\) has no place in MixSTE.*choose --bias=drop\|beside"):
    convert.write(tmp_path / "merged.bin", weights)
  assert not list(tmp_path.glob("*merged*")) and not list(tmp_path.glob(".*"))
  convert.write(tmp_path / "merged.bin", weights, bias="drop")
  convert.write(tmp_path / "folder", weights, part="merge", bias="drop")
  for path in ("merged.bin", "folder"):
    merged = convert.read(tmp_path / path)
    assert merged.adapter is None
    out = answer(base_arrays, make_model(merged.config["model"]), merged.params)
    np.testing.assert_allclose(out, arrays["out"], atol=1e-4, rtol=0)
  convert.write(tmp_path / "beside.bin", weights, bias="beside")
  np.testing.assert_array_equal(torch_checkpoint.load(tmp_path / "beside.bin")["bias"], weights.adapter["bias"])
  with pytest.raises(ValueError, match="bias beside a network without adapters"):
    convert.read(tmp_path / "beside.bin")
  half = dataclasses.replace(weights, settings={**weights.settings, "scale": 0.5})
  convert.write(tmp_path / "half.bin", half, part="keep", bias="drop")
  again = convert.read(tmp_path / "half.bin")
  out = answer(base_arrays, make_model(again.config["model"]), again.params, again.adapter)
  assert again.settings["scale"] == 1.0
  np.testing.assert_allclose(out, arrays["out_scale_half"], atol=1e-4, rtol=0)
  longer = {path: {**entry, "m": jnp.ones(entry["b"].shape[-1])} for path, entry in weights.adapter["lora"].items()}
  dora = dataclasses.replace(weights, adapter={**weights.adapter, "lora": longer})
  with pytest.raises(ValueError, match="without DoRA's magnitudes: use --lora=merge"):
    convert.write(tmp_path / "dora.bin", dora, part="keep", bias="drop")
  convert.write(tmp_path / "dora.bin", dora, bias="drop")
  merged, again = convert.read(tmp_path / "dora.bin"), convert.read(tmp_path / "merged.bin")
  moved = [np.abs(one - two).max() for one, two in zip(*map(jax.tree.leaves, (merged.params, again.params)), strict=True)]
  assert sum(change > 0.1 for change in moved) == len(longer)


def test_golden_videopose_takes_its_adapters_bias_into_its_last_layer(tmp_path):
  arrays = golden.load("videopose_small")
  weights = convert.read(write(tmp_path / "a.bin", checkpoint_of(golden.params(arrays), "")))
  settings = adapt.AdaptConfig(target_rule=lora.EVERYWHERE)
  adapter = adapt.init_adapter(jax.random.key(0), weights.params, settings)
  adapter = {**adapter, "bias": jax.random.normal(jax.random.key(1), (17, 3))}
  whole = dataclasses.replace(weights, adapter=adapter, settings=dataclasses.asdict(settings))
  convert.write(tmp_path / "merged.bin", whole)
  merged = convert.read(tmp_path / "merged.bin")
  out = answer(arrays, make_model(merged.config["model"]), merged.params)
  np.testing.assert_allclose(out, arrays["out"] + adapter["bias"], atol=1e-4, rtol=0)
  with pytest.raises(ValueError, match="--lora=keep is for adapters on every qkv and proj of MixSTE"):
    convert.write(tmp_path / "kept.bin", whole, part="keep")
  diffuses = dataclasses.replace(weights, config={**weights.config, "model": {**weights.config["model"], "diffusion": True}})
  with pytest.raises(ValueError, match="has no PyTorch original"):
    convert.write(tmp_path / "x.bin", diffuses)


def broken(state, change):
  state = dict(state)
  change(state)
  return state


@pytest.mark.parametrize("change, message", [
    (lambda s: [s.pop(name) for name in list(s) if name.startswith("TTEblocks.1")],
     r"12 missing \(TTEblocks.1.norm1.weight, TTEblocks.1.norm1.bias, TTEblocks.1.attn.qkv.weight ...\)$"),
    (lambda s: s.pop("Temporal_pos_embed"), r"1 missing \(Temporal_pos_embed\)$"),
    (lambda s: s.pop("Spatial_patch_to_embedding.weight"), r"1 missing \(Spatial_patch_to_embedding.weight\)$"),
    (lambda s: s.update({"decoder.weight": np.zeros(3)}), r"1 unexpected \(decoder.weight\)$"),
    (lambda s: s.update({"head.1.weight": np.zeros((4, 32))}),
     r"1 mis-shaped \(head.1.weight \(4, 32\) where \(3, 32\) is expected\)$"),
    (lambda s: s.update({"STEblocks.9999.norm1.weight": np.zeros(3), "head.1.bias": np.zeros(())}),
     r"missing .*; 1 unexpected .*; 1 mis-shaped"),
    (lambda s: s.update({"head.1.bias": np.full(3, np.nan)}), "head.1.bias holds values that are not finite"),
    (lambda s: s.update({"betas": np.linspace(1e-4, 0.02, 1000)}), "betas is not that of the cosine schedule of 1000 steps"),
    (lambda s: s.update({"betas": np.zeros((2, 3))}), r"schedule buffers have shapes \[\(2, 3\)\], expected \(T,\)"),
    (lambda s: s.update({"module.head.1.bias": np.zeros(3)}), "holds head.1.bias twice"),
    (lambda s: s.update({"Spatial_pos_embed": np.zeros((1, 16, 32), np.float32)}), "is for 16 joints, expected the 17 of h36m17"),
])
def test_golden_checkpoints_that_are_wrong_or_partial_are_told_name_by_name(tmp_path, change, message):
  state = golden.params(golden.load("mixste_small"))
  with pytest.raises(ValueError, match=rf"a\.bin.*{message}") as error:
    convert.read(write(tmp_path / "a.bin", {"model_pos": broken(state, change)}))
  assert "\n" not in str(error.value)


def test_golden_partial_lora_and_videopose_checkpoints_are_told(tmp_path):
  _, _, state = lora_state()
  del state["TTEblocks.1.attn.proj.lora_up.weight"]
  with pytest.raises(ValueError, match=r"1 missing \(TTEblocks.1.attn.proj.lora_up.weight\)$"):
    convert.read(write(tmp_path / "a.bin", state))
  state = golden.params(golden.load("videopose_small"))
  lost = {name: value for name, value in state.items() if name not in ("layers_bn.3.running_var", "shrink.bias")}
  with pytest.raises(ValueError, match=r"2 missing \(shrink.bias, layers_bn.3.running_var\)$"):
    convert.read(write(tmp_path / "b.bin", lost))
  channels = state["layers_conv.0.weight"].shape[0]
  dense = {**state, "layers_conv.0.weight": np.zeros((channels, channels, 7), np.float32),
           "layers_conv.2.weight": np.zeros((channels, channels, 19), np.float32)}
  with pytest.raises(ValueError, match=r"filter widths \[3, 7, 19\]: it was trained with --dense"):
    convert.read(write(tmp_path / "c.bin", dense))
  causal = convert.read(write(tmp_path / "d.bin", state), told=convert.Told(causal=True, num_frames=81))
  model = make_model(causal.config["model"])
  assert model.causal and model.num_frames == 81
  looped: dict = {}
  looped["model"] = looped
  for value, message in (({"model_pos": {"x.weight": np.zeros(3)}}, "neither MixSTE nor VideoPose3D: its arrays are x.weight"),
                         (looped, r"holds no state dict \(keys model\)"), ({"epoch": 3}, r"holds no state dict \(keys epoch\)"),
                         ([1], r"holds no state dict \(a list\)")):
    with pytest.raises(ValueError, match=message):
      convert.read(write(tmp_path / f"{abs(hash(message))}.bin", value))


def test_golden_schedule_of_another_length_is_kept_and_told(tmp_path):
  state = golden.params(golden.load("mixste_small"))
  path = write(tmp_path / "a.bin", checkpoint_of(state, CHECKPOINTS["mixste_small"], 100))
  weights = convert.read(path)
  assert weights.config["pretrain"]["diffusion_steps"] == 100 and "cosine, T = 100" in "\n".join(weights.notes)
  with pytest.raises(ValueError, match="schedule of 100 steps, --diffusion_steps says 1000"):
    convert.read(path, told=convert.Told(diffusion_steps=1000))
  bare = write(tmp_path / "b.bin", state)
  assert convert.read(bare, told=convert.Told(diffusion_steps=50)).config["pretrain"]["diffusion_steps"] == 50
  assert "assumed, since names and shapes do not tell: 8 heads (--heads), T = 1000" in convert.read(bare).notes[-1]
  with pytest.raises(ValueError, match="no network can be made.*check --heads"):
    convert.read(bare, told=convert.Told(heads=5))


def test_golden_half_precision_and_double_checkpoints_are_read_as_float32(tmp_path):
  state = golden.params(golden.load("mixste_orig_small"))
  for dtype in (np.float16, jnp.bfloat16, np.float64):
    rounded = {name: value.astype(dtype) for name, value in state.items()}
    weights = convert.read(write(tmp_path / f"{np.dtype(dtype)}.bin", rounded))
    back = torch_names.params_to_torch(weights.params, torch_networks.torch_modules(weights.config["model"]))
    for name, value in back.items():
      np.testing.assert_array_equal(value, rounded[name].astype(np.float32), strict=True)


@pytest.mark.parametrize("name", SMALL)
def test_golden_exports_load_strictly_into_pytorch_modules(tmp_path, name):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed: strict loading into its modules is not tested")
  from tests.interop import torch_models

  torch.set_num_threads(1)
  arrays = golden.load(name)
  config, diffuses = arrays["config"], "x_3d" in arrays
  if name == "videopose_small":
    model = torch_models.VideoPose(config["filter_widths"], config["channels"], config["causal"])
    holder = torch_models.VideoPose(config["filter_widths"], config["channels"], config["causal"], strided=True)
  else:
    fields = [config[key] for key in ("num_frame", "num_joints", "embed_dim", "depth", "num_heads", "mlp_ratio")]
    model = torch_models.MixSTE(*fields, diffusion=diffuses)
    holder = torch_models.Module(torch_models.D3DP(model, 1000) if diffuses else model)
  inputs = [torch.from_numpy(arrays[key]) for key in ("x_2d", "x_3d", "t") if key in arrays]
  model.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in golden.params(arrays).items()}, strict=True)
  with torch.no_grad():  # the module is the reference before anything of ours went through it
    np.testing.assert_allclose(model.eval()(*inputs).numpy(), arrays["out"], atol=2e-5, rtol=0)
  torch.save({"model_pos": holder.state_dict() if diffuses else model.state_dict()}, tmp_path / "theirs.bin")
  weights = convert.read(tmp_path / "theirs.bin")
  convert.write(tmp_path / "ours.bin", weights)
  convert.write(tmp_path / "bare.pt", weights, layout="bare")
  ours = torch.load(tmp_path / "ours.bin", weights_only=True)["model_pos"]
  for parameter in holder.parameters():
    torch.nn.init.zeros_(parameter)
  holder.load_state_dict(ours, strict=True)
  out = holder.eval()(inputs[0][:, : config["receptive_field"]]) if name == "videopose_small" else model(*inputs)
  expected = arrays["out"][:, :1] if name == "videopose_small" else arrays["out"]
  np.testing.assert_allclose(out.detach().numpy(), expected, atol=2e-5, rtol=0)
  model.load_state_dict(torch.load(tmp_path / "bare.pt", weights_only=True), strict=True)


def test_golden_lora_exports_load_strictly_into_pytorch_modules(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed: strict loading into its modules is not tested")
  from tests.interop import torch_models

  arrays, base_arrays, _ = lora_state()
  weights = small_run(tmp_path)
  convert.write(tmp_path / "ours.bin", weights, part="keep", bias="beside")
  config = base_arrays["config"]
  fields = [config[key] for key in ("num_frame", "num_joints", "embed_dim", "depth", "num_heads", "mlp_ratio")]
  model = torch_models.inject(torch_models.MixSTE(*fields, diffusion=True), arrays["config"]["r"])
  read = torch.load(tmp_path / "ours.bin", weights_only=True)
  torch_models.Module(torch_models.D3DP(model, 1000)).load_state_dict(read["model_pos"], strict=True)
  with torch.no_grad():
    out = model.eval()(*(torch.from_numpy(base_arrays[key]) for key in ("x_2d", "x_3d", "t")))
  np.testing.assert_allclose(out.numpy(), arrays["out"], atol=1e-4, rtol=0)
  np.testing.assert_array_equal((out + read["bias"]).numpy(), out.numpy() + np.asarray(weights.adapter["bias"]))


def test_golden_networks_are_converted_by_command(tmp_path, capsys):
  """In, out and back by the command line's own function; the module itself is started once."""
  write(tmp_path / "d3dp.bin", checkpoint_of(golden.params(golden.load("mixste_small")), CHECKPOINTS["mixste_small"]))
  done = subprocess.run(
      [sys.executable, "-m", "posynda_jax.interop", "convert", str(tmp_path / "d3dp.bin"), str(tmp_path / "base")],
      capture_output=True, text=True,
  )
  assert done.returncode == 0, done.stderr
  base = bases.load(tmp_path / "base")
  for said in ("MixSTE as a diffusion denoiser (D3DP, PoSynDA), under 'model_pos': num_joints 17, num_frames 9, width 32",
               f"{lora.count(base.params):,} parameters", "8 heads (--heads)", "cosine, T = 1000", base.digest):
    assert said in done.stdout
  convert_ = lambda *args: command.main(["convert", *map(str, args)])
  assert convert_(tmp_path / "base", tmp_path / "base") == 1
  assert "base exists and is not overwritten" in capsys.readouterr().err
  assert convert_(tmp_path / "base", tmp_path / "half.safetensors", "--dtype=float16") == 0
  assert convert_(tmp_path / "half.safetensors", tmp_path / "back.pt", "--layout=bare") == 0
  assert convert_(tmp_path / "none.bin", tmp_path / "x") == convert_(tmp_path / "base", tmp_path / "no" / "x.pt") == 1
  for option in ("--heads=4", "--lora=keep", "--dtype=float16"):
    assert convert_(tmp_path / "base", tmp_path / "x.pt", option) == 1
  errors = capsys.readouterr().err.splitlines()
  assert len(errors) == 5 and all(line.startswith("error: ") for line in errors)
  reasons = ("none.bin does not exist", "no does not exist", "itself what --heads would", "needs an adapter", "for .safetensors")
  assert all(reason in line for line, reason in zip(errors, reasons))

  weights = small_run(tmp_path)
  convert.write(tmp_path / "run", weights)
  assert convert_(tmp_path / "run", tmp_path / "adapter.safetensors") == 0
  other = jax.tree.map(lambda leaf: leaf + 1, base.params)
  tensors_file.save_base(tmp_path / "other.safetensors", other, base.config)
  for adapter in ("adapter.safetensors", "run"):
    assert convert_(tmp_path / "other.safetensors", tmp_path / "x", f"--adapter={tmp_path / adapter}") == 1
    assert f"the base here is {checkpoint.digest(other)}: give the base it was trained on" in capsys.readouterr().err
  config = runs.read_config(tmp_path / "run")
  runs.write_json(tmp_path / "run" / "config.json", {key: value for key, value in config.items() if key != "base_folder"})
  assert convert_(tmp_path / "run", tmp_path / "x") == 1  # as `experiments.components` leaves a folder
  assert "give the base as IN and --adapter=" in capsys.readouterr().err
  assert convert_(tmp_path / "base", tmp_path / "again", f"--adapter={tmp_path / 'run'}", "--weights=adapted") == 0
  assert_trees_equal(convert.read(tmp_path / "again").adapter, weights.adapter)
  assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".*"))


def test_nothing_half_written_stays(tmp_path):
  weights = convert.Weights({"params": {"x": {"kernel": jnp.ones((2, 2))}}}, {"model": {"num_frames": 9}, "bad": object()})
  for name in ("a.bin", "a.safetensors", "folder"):
    with pytest.raises((ValueError, TypeError)):
      convert.write(tmp_path / name, weights)
  assert not list(tmp_path.iterdir())
