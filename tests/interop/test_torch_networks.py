"""Networks of PyTorch checkpoints: parity through files, names of the original code, and errors for wrong files."""

import dataclasses
import pickle
import re

import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.adaptation import bases
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.geometry import skeleton
from posynda_jax.interop import convert, torch_file, torch_names, torch_networks, torch_weights
from tests import golden
from tests.interop import torch_files as files
from tests.tolerance import assert_close

MIXSTE_FIELDS = ("num_frame", "num_joints", "embed_dim", "depth", "num_heads", "mlp_ratio")


@pytest.mark.parametrize("name", files.PREFIXES)
def test_golden_outputs_through_checkpoint_files(tmp_path, name):
  arrays = golden.load(name)
  config, state = arrays["config"], golden.params(arrays)
  path = files.write(tmp_path / "a.bin", files.checkpoint_of(state, files.PREFIXES[name]), "legacy")
  weights = convert.read(path, hints=files.hints(arrays))
  model = make_model(weights.config["model"])
  assert model.diffusion == ("x_3d" in arrays)
  if name == "videopose_small":
    fields = (list(model.filter_widths), model.channels, model.causal, model.num_frames)
    assert fields == tuple(config[key] for key in ("filter_widths", "channels", "causal", "receptive_field"))
  else:
    fields = (model.num_frames, model.num_joints, model.width, model.depth, model.num_heads, model.mlp_ratio)
    assert fields == tuple(config[key] for key in MIXSTE_FIELDS)
  convert.write(tmp_path / "base", weights)
  base = bases.load(tmp_path / "base")
  files.assert_same_bits(base.params, torch_names.params_from_torch(state))
  np.testing.assert_allclose(files.predict(arrays, base.model, base.params), arrays["out"], atol=1e-4, rtol=0)


def table(arrays: dict, key: str) -> dict[str, tuple[int, ...]]:
  """Shapes by name of a golden file's list."""
  shapes = (tuple(int(n) for n in shape if n) for shape in arrays[f"{key}_shapes"])
  return dict(zip(map(str, arrays[f"{key}_names"]), shapes, strict=True))


def test_golden_checkpoint_names_are_those_of_the_original_code(tmp_path, monkeypatch):
  """At the paper's size, without writing its hundreds of megabytes."""
  (tmp_path / "a.bin").write_bytes(b"hollow")
  saved = []
  monkeypatch.setattr(torch_file, "save_torch", lambda path, value: saved.append(value["model_pos"]))

  def read(arrays: dict, value: dict) -> convert.Converted:
    monkeypatch.setattr(torch_file, "load_torch", lambda path: value)
    return torch_weights.read_torch(tmp_path / "a.bin", files.hints(arrays))

  def hollow(shapes: dict, prefix: str = "") -> dict:
    return {prefix + name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}

  arrays = golden.load("mixste_full")
  expected = {key: table(arrays, f"{key}_checkpoint") for key in ("d3dp", "posynda")}
  schedule = torch_names.schedule_buffers(*expected["d3dp"]["module.betas"])
  state = hollow(expected["posynda"]) | {f"module.{name}": value for name, value in schedule.items()}
  weights = read(arrays, {"model_pos": state, "model_weight": {"other": np.zeros(3)}})
  for key, held in (("d3dp", dataclasses.replace(weights, adapter=None)), ("posynda", weights)):
    torch_weights.write_torch(tmp_path / "out.bin", held, held.adapter is not None, "refuse")
    assert [(name, value.shape) for name, value in saved[-1].items()] == list(expected[key].items())
  assert [str(value.dtype) for value in saved[0].values()] == [str(one) for one in arrays["d3dp_checkpoint_dtypes"]]
  original = golden.load("mixste_orig_full")
  weights = read(original, hollow(table(original, "param"), "module."))
  torch_weights.write_torch(tmp_path / "out.bin", weights, False, "refuse")
  assert list(saved[-1]) == [str(name) for name in original["checkpoint_names"]]


def golden_lengths() -> dict[int, dict[str, np.ndarray]]:
  """The golden schedules by their T."""
  schedules: dict[int, dict[str, np.ndarray]] = {}
  for key, value in golden.load("diffusion_schedule").items():
    if found := re.fullmatch(r"T(\d+)/(\w+)", key):
      schedules.setdefault(int(found[1]), {})[found[2]] = value
  return schedules


def test_golden_schedule_buffers():
  for num_steps, schedule in golden_lengths().items():
    buffers = torch_names.schedule_buffers(num_steps)
    for name, value in schedule.items():
      np.testing.assert_allclose(buffers[name], value, rtol=1e-10, atol=1e-12)
    assert len(buffers) == 12 and all(value.dtype == np.float64 for value in buffers.values())
    x_0, x_t, t = 0.3, -0.7, num_steps // 2  # the mean of q(x_{t-1} | x_t, x_0), by Bayes' rule
    beta, before = buffers["betas"][t], buffers["alphas_cumprod_prev"][t]
    precision = (1 - beta) / beta + 1 / (1 - before)
    mean = (np.sqrt(1 - beta) / beta * x_t + np.sqrt(before) / (1 - before) * x_0) / precision
    weighted = buffers["posterior_mean_coef1"][t] * x_0 + buffers["posterior_mean_coef2"][t] * x_t
    variance = np.exp(buffers["posterior_log_variance_clipped"][t])
    assert_close([weighted, variance], [mean, 1 / precision], dtype=np.float64)


def test_golden_schedule_of_another_length_is_kept_and_reported(tmp_path):
  arrays, num_steps = golden.load("mixste_small"), min(golden_lengths())
  state, config = golden.params(arrays), arrays["config"]
  path = files.write(tmp_path / "a.bin", files.checkpoint_of(state, files.D3DP, num_steps))
  weights = convert.read(path, hints=files.hints(arrays))
  assert weights.config["pretrain"]["diffusion_steps"] == num_steps
  assert f"cosine, T = {num_steps}" in "\n".join(weights.notes)
  with pytest.raises(ValueError, match=f"schedule of {num_steps} steps, --diffusion_steps says {num_steps + 1}"):
    convert.read(path, hints=files.hints(arrays, diffusion_steps=num_steps + 1))
  bare = files.write(tmp_path / "b.bin", state)
  told = convert.read(bare, hints=files.hints(arrays, diffusion_steps=num_steps + 1))
  assert told.config["pretrain"]["diffusion_steps"] == num_steps + 1
  with pytest.raises(ValueError, match="no network can be made.*check --heads"):
    convert.read(bare, hints=files.hints(arrays, heads=config["embed_dim"] + 1))


def test_golden_joint_order_is_changed_exactly(tmp_path):
  """A network trained in MPI-INF-3DHP's joint order gives the same poses, reordered."""
  order = np.array(skeleton.ORDERS["dhp17"])
  for name in ("mixste_orig_small", "videopose_small"):
    arrays = golden.load(name)
    path = files.write(tmp_path / f"{name}.bin", files.checkpoint_of(golden.params(arrays), files.PREFIXES[name]))
    weights = convert.read(path, hints=files.hints(arrays, joint_order="dhp17"))
    assert "joint order" not in weights.notes[-1]
    reordered = {**arrays, "x_2d": arrays["x_2d"][..., order, :]}
    out = files.predict(reordered, make_model(weights.config["model"]), weights.params)
    np.testing.assert_allclose(out, arrays["out"][..., order, :], atol=1e-4, rtol=0)
    assert "Human3.6M's joint order (--joint_order;" in convert.read(path, hints=files.hints(arrays)).notes[-1]
  with pytest.raises(ValueError, match="joint order 'coco' is unknown; choose one of h36m17, dhp17"):
    convert.read(path, hints=convert.Hints(joint_order="coco"))


def wrong_files(arrays: dict) -> list[tuple[dict, str]]:
  """(state dict, error) of the wrong and partial copies of a golden denoiser."""
  state, config = golden.params(arrays), arrays["config"]
  width, joints, last = config["embed_dim"], config["num_joints"], f"TTEblocks.{config['depth'] - 1}."
  block = [name for name in state if name.startswith(last)]

  def without(*names) -> dict:
    return {name: value for name, value in state.items() if name not in names}

  return [
      (without(*block), rf"{len(block)} missing \({', '.join(block[:3])} ...\)$"),
      (without("Temporal_pos_embed"), r"1 missing \(Temporal_pos_embed\)$"),
      (without("Spatial_patch_to_embedding.weight"), r"1 missing \(Spatial_patch_to_embedding.weight\)$"),
      (state | {"decoder.weight": np.zeros(3)}, r"1 unexpected \(decoder.weight\)$"),
      (state | {"head.1.weight": np.zeros((4, width))},
       rf"1 mis-shaped \(head.1.weight \(4, {width}\) where \(3, {width}\) is expected\)$"),
      (state | {"STEblocks.9999.norm1.weight": np.zeros(3), "head.1.bias": np.zeros(())},
       "missing .*; 1 unexpected .*; 1 mis-shaped"),
      (state | {"head.1.bias": np.full(3, np.nan)}, "head.1.bias holds values that are not finite"),
      (state | {"betas": np.linspace(1e-4, 0.02, 50)}, "betas is not that of the cosine schedule of 50 steps"),
      (state | {"betas": np.zeros((2, 3))}, r"schedule buffers have shapes \[\(2, 3\)\], expected \(T,\)"),
      (state | {"module.head.1.bias": np.zeros(3)}, "holds head.1.bias twice"),
      (state | {"Spatial_pos_embed": np.zeros((1, joints - 1, width), np.float32)},
       f"is for {joints - 1} joints, expected the 17 of h36m17"),
  ]


def test_golden_checkpoints_that_are_wrong_or_partial_are_reported_name_by_name(tmp_path):
  arrays = golden.load("mixste_small")
  for i, (state, message) in enumerate(wrong_files(arrays)):
    with pytest.raises(ValueError, match=rf"{i}\.bin.*{message}") as error:
      convert.read(files.write(tmp_path / f"{i}.bin", {"model_pos": state}), hints=files.hints(arrays))
    assert "\n" not in str(error.value)


def test_golden_partial_lora_and_videopose_checkpoints_are_reported(tmp_path):
  def read(state: dict, lost: list[str], **others) -> convert.Converted:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
    files.write(path, {name: value for name, value in state.items() if name not in lost})
    return convert.read(path, hints=files.hints(arrays, **others))

  _, arrays, state = files.golden_lora()
  lost = [name for name in state if name.endswith("lora_up.weight")][-1:]
  with pytest.raises(ValueError, match=rf"1 missing \({lost[0]}\)$"):
    read(state, lost)
  arrays = golden.load("videopose_small")
  state, widths, channels = golden.params(arrays), arrays["config"]["filter_widths"], arrays["config"]["channels"]
  lost = ["shrink.bias", [name for name in state if name.endswith("running_var")][-1]]
  with pytest.raises(ValueError, match=rf"2 missing \({', '.join(lost)}\)$"):
    read(state, lost)
  dense = [(widths[0] - 1) * widths[0] ** i + 1 for i in range(len(widths))]
  for i, width in enumerate(dense[1:]):
    state[f"layers_conv.{2 * i}.weight"] = np.zeros((channels, channels, width), np.float32)
  with pytest.raises(ValueError, match=rf"filter widths {re.escape(str(dense))}: it was trained with --dense"):
    read(state, [])
  model = make_model(read(golden.params(arrays), [], causal=True, num_frames=81).config["model"])
  assert model.causal and model.num_frames == 81


def test_files_without_a_network_are_reported(tmp_path):
  looped: dict = {}
  looped["model"] = looped
  (tmp_path / "looped.bin").write_bytes(files.zipped(pickle.dumps(looped, 2)))
  with pytest.raises(ValueError, match=r"holds no state dict \(keys model\)"):
    convert.read(tmp_path / "looped.bin")
  for i, (value, message) in enumerate([
      ({"model_pos": {"x.weight": np.zeros(3)}}, "neither MixSTE nor VideoPose3D: its arrays are x.weight"),
      ({"epoch": 3}, r"holds no state dict \(keys epoch\)"), ([1], r"holds no state dict \(a list\)"),
  ]):
    with pytest.raises(ValueError, match=message):
      convert.read(files.write(tmp_path / f"{i}.bin", value))


def test_assumptions_about_a_network_are_listed(tmp_path):
  config = {"num_frames": 3, "width": 16, "depth": 1}
  shapes = torch_networks.state_shapes(config, torch_networks.torch_modules(config), "")
  path = files.write(tmp_path / "a.bin", {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
  assert convert.read(path).notes[-1] == (
      "assumed, because names and shapes do not show it: 8 heads (--heads), T = 1000 (--diffusion_steps), 50 frames a "
      "second (--clip_fps), Human3.6M's joint order (--joint_order; trained on MPI-INF-3DHP: dhp17)"
  )


def test_golden_half_precision_and_double_checkpoints_are_read_as_float32(tmp_path):
  arrays = golden.load("mixste_orig_small")
  for dtype in (np.float16, jnp.bfloat16, np.float64):
    rounded = {name: value.astype(dtype) for name, value in golden.params(arrays).items()}
    weights = convert.read(files.write(tmp_path / f"{np.dtype(dtype)}.bin", rounded), hints=files.hints(arrays))
    back = torch_names.params_to_torch(weights.params, torch_networks.torch_modules(weights.config["model"]))
    files.assert_same_bits(back, {name: value.astype(np.float32) for name, value in rounded.items()})


@pytest.mark.parametrize("name", ["mixste_small", "mixste_orig_small", "lora_small"])
def test_golden_exports_load_strictly_into_pytorch_modules(tmp_path, name):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed: strict loading into its modules is not tested")
  from experiments.bench import torch_models

  torch.set_num_threads(1)
  arrays = golden.load(name)
  base = arrays if "x_2d" in arrays else golden.load(arrays["config"]["base"].removesuffix(".npz"))
  model = torch_models.MixSTE(*(base["config"][key] for key in MIXSTE_FIELDS), diffusion="x_3d" in base)
  if base is arrays:
    weights = convert.read(files.write(tmp_path / "in.bin", golden.params(base)), hints=files.hints(base))
  else:
    weights, model = files.golden_run(), torch_models.inject(model, arrays["config"]["r"])
  convert.write(tmp_path / "ours.bin", weights, part="base" if base is arrays else "keep", bias="drop")
  holder = torch.nn.ModuleDict({"module": model})
  if "x_3d" in base:  # as D3DP holds its denoiser
    holder = torch.nn.ModuleDict({"module": torch.nn.ModuleDict({"pose_estimator": model})})
    for buffer, value in torch_names.schedule_buffers(1000).items():
      holder["module"].register_buffer(buffer, torch.from_numpy(value))
  holder.load_state_dict(torch.load(tmp_path / "ours.bin", weights_only=True)["model_pos"], strict=True)
  with torch.no_grad():
    out = model.eval()(*(torch.from_numpy(base[key]) for key in ("x_2d", "x_3d", "t") if key in base))
  np.testing.assert_allclose(out.numpy(), arrays["out"], atol=1e-4, rtol=0)
