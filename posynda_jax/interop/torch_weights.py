"""A PyTorch file as a base with its adapter, and back: what `convert` does with `.bin`, `.pt` and `.pth`.

A file of ours also carries the config it was made of, as text under `posynda_jax`, which the original code never looks at.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.adaptation import adapt
from posynda_jax.interop import torch_checkpoint, torch_names, torch_networks, torch_schedule, torch_writer
from posynda_jax.peft import lora

_ENTRY = "posynda_jax"
_TITLES = {  # (network, diffusion)
    ("mixste", True): "MixSTE as a diffusion denoiser (D3DP, PoSynDA)", ("mixste", False): "MixSTE, the plain lifter",
    ("videopose", False): "VideoPose3D (dilated and strided form are the same weights)",
}


@dataclasses.dataclass(frozen=True)
class Weights:
  """A base with the config of its run, its adapter with its AdaptConfig as a dict (or None twice), and what to tell of them."""

  params: dict
  config: dict[str, Any]
  adapter: dict | None = None
  settings: dict[str, Any] | None = None
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Told:
  """What names and shapes do not tell. Where it is None, a file of ours knows, and for any other the published networks' value
  holds: 8 heads, not causal, clips of VideoPose's receptive field, T = 1000, 50 frames a second, Human3.6M's order of joints."""

  heads: int | None = None
  causal: bool | None = None
  num_frames: int | None = None
  diffusion_steps: int | None = None
  clip_fps: float | None = None
  joint_order: str | None = None


def read(path, told: Told = Told()) -> Weights:
  """The weights of a PyTorch file. Raises as `torch_checkpoint.load` and `torch_networks.recognise` do."""
  value = torch_checkpoint.load(path)
  state, key = torch_networks.find_state(value, str(path))
  own = _own_config(value, path)
  model = own.get("model", {})
  heads, causal = told.heads or model.get("num_heads"), model.get("causal") if told.causal is None else told.causal
  order = told.joint_order or "h36m17"
  found = torch_networks.recognise(state, str(path), heads or 8, bool(causal), told.num_frames or model.get("num_frames"), order)
  if told.diffusion_steps and found.diffusion_steps and told.diffusion_steps != found.diffusion_steps:
    raise ValueError(f"{path} has a schedule of {found.diffusion_steps} steps, --diffusion_steps says {told.diffusion_steps}: "
                     "leave it out")
  steps = found.diffusion_steps or told.diffusion_steps or own.get("pretrain", {}).get("diffusion_steps", 1000)
  fields = {**found.fields, **({} if found.name == "mixste" else {"denoiser": found.name}), "dtype": "float32"}
  if own:
    fields |= {name: model[name] for name in ("drop_path", "dropout", "dtype") if name in model}
    config = {**own, "model": fields, "clip_fps": told.clip_fps or own["clip_fps"]}
  else:
    config = {
        "model": fields, "pretrain": {"diffusion_steps": steps, "num_steps": 0}, "clip_fps": told.clip_fps or 50.0,
        "source": f"converted from {pathlib.Path(path).name}", "converted_from": {"sha256": _sha256(path), "joint_order": order},
    }
  injected = ", after LoRA injection" if found.lora is not None else ""
  notes = [f"{_TITLES[found.name, fields['diffusion']]}{injected}{f', under {key!r}' if key else ''}: {describe(fields)}"]
  if found.diffusion_steps:
    notes.append(f"schedule: cosine, T = {found.diffusion_steps}, its buffers agree with ours")
  if not own and (assumed := _assumed(found, told)):
    notes.append("assumed, since names and shapes do not tell: " + ", ".join(assumed))
  bias = value.get("bias") if key else None
  if bias is not None and (found.lora is None or np.shape(bias) != (17, 3)):
    raise ValueError(f"{path} has an adapter's bias beside a network without adapters, and a base has no place for it: convert "
                     "the run it was made of")
  adapter, settings = None, config.pop("adapt", None)
  if found.lora is not None:
    bias = np.zeros((17, 3), np.float32) if bias is None else np.asarray(bias, np.float32)
    adapter = jax.tree.map(jnp.asarray, {"lora": found.lora, "bias": bias})
    rank = next(iter(found.lora.values()))["a"].shape[-1]
    settings = settings or dataclasses.asdict(adapt.AdaptConfig(rank=rank, bias=bool(bias.any()), diffusion_steps=steps))
    notes.append(f"adapter: rank {rank} on {len(found.lora)} layers, scale 1, {lora.count(adapter):,} parameters with the bias")
  return Weights(jax.tree.map(jnp.asarray, found.variables), config, adapter, settings, tuple(notes))


def write(path, weights: Weights, keep: bool, layout: str, bias: str) -> str:
  """Writes the new file `path` for the original code and strict loading, and returns what is in it.

  Its adapter is injected when `keep`, else it has been merged already. `layout` is original, as the original code saves it, or
  bare, the network's state dict. `bias` says what becomes of an adapter's bias, for which MixSTE has no place: refuse, drop, or
  beside the state dict. Raises ValueError for weights that the original code cannot hold.
  """
  model = weights.config["model"]
  modules = torch_networks.torch_modules(model)
  state, config = torch_names.params_to_torch(weights.params, modules), weights.config
  if keep:
    factors = weights.adapter.get("lora", {})
    if any("m" in entry for entry in factors.values()) or set(factors) != {torch_names.module_path(module) for module in modules if torch_names.is_adapted(module)}:
      raise ValueError("--lora=keep is for adapters on every qkv and proj of MixSTE, as in PoSynDA's code, without DoRA's magnitudes: use --lora=merge")
    scale = weights.settings["scale"]  # the original's is 1
    scaled = {name: {"a": entry["a"], "b": scale * entry["b"]} for name, entry in factors.items()}
    state = torch_names.inject(state, torch_names.lora_to_torch(scaled, modules))
    config = {**config, "adapt": {**weights.settings, "scale": 1.0}}
  value: dict[str, Any] = {"epoch": 0, _ENTRY: json.dumps(config, sort_keys=True)}
  if weights.adapter is not None and np.any(weights.adapter["bias"]):
    check_bias(weights.adapter["bias"], bias, ("drop", "beside") if layout == "original" else ("drop",))
    value |= {"bias": np.asarray(weights.adapter["bias"])} if bias == "beside" else {}
  if layout == "bare":
    torch_writer.save(path, state)
    return f"a state dict of {len(state)} arrays"
  if model.get("denoiser", "mixste") == "mixste":
    diffuses = model.get("diffusion", True)
    buffers = torch_schedule.buffers(config["pretrain"]["diffusion_steps"]) if diffuses else {}
    prefix = "module.pose_estimator." if diffuses else "module."
    state = {prefix + name: item for name, item in state.items()}
    state = {**{f"module.{name}": item for name, item in buffers.items()}, **state}
  torch_writer.save(path, {**value, "model_pos": state})
  beside = ", and 'bias' to add to the network's answers" if "bias" in value else ""
  return f"a checkpoint with {len(state)} arrays under 'model_pos'{beside}"


def check_bias(offset, bias: str, choices: tuple[str, ...]) -> None:
  """Refuses to lose an adapter's bias unasked. Raises ValueError where `bias` is none of the choices."""
  if bias not in choices:
    size = 1000 * float(np.abs(offset).max())
    raise ValueError(f"the adapter's bias (Eq. 11, up to {size:.1f} mm) has no place in MixSTE itself: choose "
                     f"--bias={'|'.join(choices)}, or keep base and adapter apart")


def describe(model: dict[str, Any]) -> str:
  """The fields of a model's config on one line."""
  shown = lambda value: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
  hidden = ("denoiser", "dtype", "drop_path", "dropout")
  return ", ".join(f"{name} {shown(value)}" for name, value in model.items() if name not in hidden)


def _assumed(found: torch_networks.Found, told: Told) -> list[str]:
  """What nobody told of a file that is not ours."""
  mixste = found.name == "mixste"
  doubtful = [
      (mixste and told.heads is None, "8 heads (--heads)"),
      (not mixste and told.causal is None, "not causal (--causal)"),
      (found.fields["diffusion"] and not found.diffusion_steps and not told.diffusion_steps, "T = 1000 (--diffusion_steps)"),
      (told.clip_fps is None, "50 frames a second (--clip_fps)"),
      (told.joint_order is None, "Human3.6M's joint order (--joint_order; trained on MPI-INF-3DHP: dhp17)"),
  ]
  return [what for doubted, what in doubtful if doubted]


def _own_config(value: Any, path) -> dict[str, Any]:
  """What a PyTorch file that we wrote says of itself; empty for any other. Raises ValueError where that is damaged."""
  if not isinstance(value, dict) or not isinstance(value.get(_ENTRY), str):
    return {}
  try:
    config = json.loads(value[_ENTRY])
    adapt.from_settings(config.get("adapt", {}))
    return {**config, "model": dict(config["model"]), "pretrain": dict(config["pretrain"]), "clip_fps": float(config["clip_fps"])}
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f"{path}: its entry {_ENTRY!r} is damaged ({type(error).__name__}: {error}): convert it again") from error


def _sha256(path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
