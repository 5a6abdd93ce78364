"""A PyTorch file as a base with its adapter, and back.

A file of ours also holds the config of its run, as JSON text under `posynda_jax`, which the original code ignores.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.adaptation import adapters
from posynda_jax.interop import torch_file, torch_names, torch_networks
from posynda_jax.interop.torch_networks import Hints
from posynda_jax.peft import counting

_ENTRY = "posynda_jax"
_FIELDS = {"heads": "num_heads", "causal": "causal", "num_frames": "num_frames"}  # hint -> field of a model's config
_ASSUMED = {
    "heads": "8 heads (--heads)", "causal": "not causal (--causal)", "diffusion_steps": "T = 1000 (--diffusion_steps)",
    "clip_fps": "50 frames a second (--clip_fps)",
    "joint_order": "Human3.6M's joint order (--joint_order; trained on MPI-INF-3DHP: dhp17)",
}


@dataclasses.dataclass(frozen=True)
class Converted:
  """A base with the config of its run, an adapter with its settings (None without adapter), and notes to print."""

  params: dict
  config: dict[str, Any]
  adapter: dict | None = None
  settings: dict[str, Any] | None = None
  notes: tuple[str, ...] = ()


def read_torch(path, hints: Hints = Hints()) -> Converted:
  """The weights of a PyTorch file. Raises as `torch_file.load_torch` and `torch_networks.recognise`."""
  value = torch_file.load_torch(path)
  state, key = torch_networks.find_state(value, str(path))
  own = _own_config(value, path)
  given = {hint: fact for hint, fact in vars(hints).items() if fact is not None}
  known = {hint: own.get("model", {}).get(name) for hint, name in _FIELDS.items()}
  model, variables, factors, steps = torch_networks.recognise(state, str(path), Hints(**known | given))
  if steps and given.get("diffusion_steps", steps) != steps:
    said = given["diffusion_steps"]
    raise ValueError(f"{path} has a schedule of {steps} steps, --diffusion_steps says {said}: leave it out")
  injected, under = ", after LoRA injection" if factors else "", f", under {key!r}" if key else ""
  notes = [f"{_title(model)}{injected}{under}: {describe_model(model)}"]
  if steps:
    notes.append(f"schedule: cosine, T = {steps}, its buffers agree with ours")
  model["dtype"] = "float32"
  if own:
    model |= {name: own["model"][name] for name in ("drop_path", "dropout", "dtype") if name in own["model"]}
    config = {**own, "model": model, "clip_fps": hints.clip_fps or own["clip_fps"]}
  else:
    unclear = {"clip_fps", "joint_order", "causal" if "denoiser" in model else "heads"}
    unclear |= {"diffusion_steps"} if model["diffusion"] and not steps else set()
    if assumed := [text for hint, text in _ASSUMED.items() if hint in unclear - set(given)]:
      notes.append(f"assumed, because names and shapes do not show it: {', '.join(assumed)}")
    config = _make_config(path, model, steps, hints)
  settings, bias = config.pop("adapt", None), value.get("bias") if key else None
  if bias is not None and (not factors or np.shape(bias) != (17, 3)):
    raise ValueError(f"{path} has an adapter's bias beside a network without adapters: convert the run it comes from")
  params = jax.tree.map(jnp.asarray, variables)
  if not factors:
    return Converted(params, config, notes=tuple(notes))
  bias = np.zeros((17, 3), np.float32) if bias is None else np.asarray(bias, np.float32)
  adapter = jax.tree.map(jnp.asarray, {"lora": factors, "bias": bias})
  rank = next(iter(factors.values()))["a"].shape[-1]
  fresh = adapters.AdapterConfig(rank=rank, bias=bool(bias.any()))
  settings = settings or {"adapter": dataclasses.asdict(fresh), "body": [], "view": []}
  notes.append(f"adapter: rank {rank} on {len(factors)} layers, {counting.count(adapter):,} parameters with bias")
  return Converted(params, config, adapter, settings, tuple(notes))


def write_torch(path, weights: Converted, keep: bool, bias: str) -> str:
  """Writes the new file `path` for the original code and strict loading; returns what the file holds.

  The adapter is injected with `keep`; without it, the base must have the adapter merged. MixSTE has no place for an
  adapter's bias, so `bias` is "refuse", "drop", or "beside" the state dict. Raises ValueError for weights that the
  original code cannot hold.
  """
  model, config = weights.config["model"], weights.config
  modules = torch_networks.torch_modules(model)
  state = torch_names.params_to_torch(weights.params, modules)
  if keep:
    factors = weights.adapter.get("lora", {})
    if set(factors) != {torch_names.module_path(module) for module in filter(torch_names.is_adapted, modules)}:
      raise ValueError("--lora=keep is for adapters on every qkv and proj of MixSTE, as PoSynDA's: use --lora=merge")
    scale = adapters.from_settings(weights.settings).scale  # that of the original code is 1
    scaled = {name: {"a": entry["a"], "b": scale * entry["b"]} for name, entry in factors.items()}
    state = torch_names.inject(state, torch_names.lora_to_torch(scaled, modules))
    config = {**config, "adapt": weights.settings | {"adapter": weights.settings["adapter"] | {"scale": 1.0}}}
  value: dict[str, Any] = {"epoch": 0, _ENTRY: json.dumps(config, sort_keys=True)}
  if weights.adapter is not None and np.any(weights.adapter["bias"]):
    check_bias(weights.adapter["bias"], bias, can_keep=True)
    value |= {"bias": np.asarray(weights.adapter["bias"])} if bias == "beside" else {}
  if "denoiser" not in model or model["denoiser"] == "mixste":
    diffuses = model.get("diffusion", True)
    buffers = torch_names.schedule_buffers(config["pretrain"]["diffusion_steps"]) if diffuses else {}
    prefix = "module.pose_estimator." if diffuses else "module."
    state = {f"module.{name}": item for name, item in buffers.items()} | {prefix + k: v for k, v in state.items()}
  torch_file.save_torch(path, {**value, "model_pos": state})
  beside = ", and 'bias' to add to the network's output" if "bias" in value else ""
  return f"a checkpoint with {len(state)} arrays under 'model_pos'{beside}"


def check_bias(offset, bias: str, can_keep: bool) -> None:
  """Raises ValueError unless `bias` says "drop", or "beside" where the file can keep the bias there."""
  choices = ("drop", "beside") if can_keep else ("drop",)
  if bias not in choices:
    size = 1000 * float(np.abs(offset).max())
    options = f"choose --bias={'|'.join(choices)}, or keep base and adapter apart"
    raise ValueError(f"the adapter's bias (Eq. 11, up to {size:.1f} mm) has no place in MixSTE itself: {options}")


def describe_model(model: Mapping[str, Any]) -> str:
  """The fields of a model's config on one line."""
  hidden = ("denoiser", "dtype", "drop_path", "dropout")
  shown = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in model.items()}
  return ", ".join(f"{name} {','.join(map(str, value))}" for name, value in shown.items() if name not in hidden)


def _make_config(path, model: dict[str, Any], steps: int, hints: Hints) -> dict[str, Any]:
  """The config of a base from a file of others."""
  with open(path, "rb") as file:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
  return {
      "model": model, "pretrain": {"diffusion_steps": steps or hints.diffusion_steps or 1000, "num_steps": 0},
      "clip_fps": hints.clip_fps or 50.0, "source": f"converted from {pathlib.Path(path).name}",
      "converted_from": {"sha256": sha256, "joint_order": hints.joint_order or "h36m17"},
  }


def _title(model: Mapping[str, Any]) -> str:
  if "denoiser" in model:
    return "VideoPose3D (dilated and strided form are the same weights)"
  return "MixSTE as a diffusion denoiser (D3DP, PoSynDA)" if model["diffusion"] else "MixSTE, the plain lifter"


def _own_config(value: Any, path) -> dict[str, Any]:
  """The config in a file of ours; empty for any other file. Raises ValueError if it is damaged."""
  if not isinstance(value, dict) or not isinstance(value.get(_ENTRY), str):
    return {}
  try:
    config = json.loads(value[_ENTRY])
    if "adapt" in config:
      adapters.from_settings(config["adapt"])
    sections = {"model": dict(config["model"]), "pretrain": dict(config["pretrain"])}
    return {**config, **sections, "clip_fps": float(config["clip_fps"])}
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    problem = f"{type(error).__name__}: {error}"
    raise ValueError(f"{path}: its entry {_ENTRY!r} is damaged ({problem}): convert it again") from error
