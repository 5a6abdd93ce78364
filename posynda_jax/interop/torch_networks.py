"""Which network a PyTorch state dict is, by names and shapes: found in a checkpoint, checked array by array, and made ours.

    MixSTE        Spatial_patch_to_embedding takes 2 numbers: the plain lifter; 5: the denoiser of D3DP and PoSynDA
      + LoRA      <module>.linear, .lora_down, .lora_up in every attention layer: a base, and an adapter of scale 1
    VideoPose3D   expand_conv, layers_conv, layers_bn, shrink

Shapes do not tell everything: number of heads, causal or not, and the joint order are said by whoever converts.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.geometry import skeleton
from posynda_jax.interop import torch_names, torch_schedule

KEYS = ("model_pos", "state_dict", "model_state_dict", "model", "net", "model_weight")  # where checkpoints keep a state dict
_PREFIXES = ("module.", "pose_estimator.", "model.", "_orig_mod.")
_MARKS = {"mixste": r"(STEblocks|TTEblocks|Spatial_|Temporal_|time_mlp)", "videopose": r"(layers_conv|layers_bn|expand_|shrink)"}
MAX_NUMBERS = 2**31  # in one network; the published ones have up to 35 million


@dataclasses.dataclass(frozen=True)
class Found:
  """A recognised network: its model's fields, Flax variables, `lora` tree and T of its schedule buffers, None without them."""

  name: str
  fields: dict[str, Any]
  variables: dict
  lora: dict | None
  diffusion_steps: int | None


def find_state(value: Any, label: str) -> tuple[dict[str, np.ndarray], str]:
  """(arrays by name, key they were found under or "") in what a checkpoint holds. Raises ValueError that lists its keys."""
  at, keys = value, []
  while isinstance(at, dict) and len(keys) < 4 and (key := next((key for key in KEYS if isinstance(at.get(key), dict)), None)):
    keys.append(key)
    at = at[key]
  if not isinstance(at, dict) or not any(isinstance(name, str) and isinstance(item, np.ndarray) for name, item in at.items()):
    held = f"a {type(at).__name__}" if not isinstance(at, dict) else f"keys {', '.join(map(str, list(at)[:6])) or 'none'}"
    raise ValueError(f"{label} holds no state dict ({held}): expected arrays by name, bare or under {', '.join(KEYS)}")
  return {name: item for name, item in at.items() if isinstance(name, str) and isinstance(item, np.ndarray)}, ".".join(keys)


def strip(state: Mapping[str, np.ndarray], label: str) -> tuple[dict, dict]:
  """(network's arrays under bare names, D3DP's schedule buffers). Raises ValueError where names collide without prefixes."""
  network, buffers = {}, {}
  for name, value in state.items():
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
      name = name.removeprefix(prefix)
    kept = buffers if name in torch_schedule.NAMES else network
    if name in kept:
      raise ValueError(f"{label} holds {name} twice, under different prefixes: convert a checkpoint of one network")
    kept[name] = value
  return network, buffers


def recognise(
    state: Mapping[str, np.ndarray], label: str, heads: int = 8, causal: bool = False, num_frames: int | None = None,
    joint_order: str = "h36m17",
) -> Found:
  """The network that a state dict is, in our order of joints.

  `heads` is MixSTE's, `causal` and `num_frames` (of the pipeline's clips; default its receptive field) VideoPose's; `joint_order`
  names the order of `skeleton.ORDERS` it was trained in. Raises ValueError that lists missing, unexpected and mis-shaped names,
  and for a noise schedule that is not ours.
  """
  network, buffers = strip(state, label)
  network, arrays = torch_names.eject(network)
  votes = {name: sum(bool(re.match(mark, entry)) for entry in network) for name, mark in _MARKS.items()}
  name = max(votes, key=votes.get)
  if not votes[name]:
    raise ValueError(f"{label} is neither MixSTE nor VideoPose3D: its arrays are {', '.join(list(network)[:4]) or 'none'} ...")
  shapes = {entry: np.shape(value) for entry, value in network.items()}
  size = lambda entry, axis, ndim, default: shapes[entry][axis] if len(shapes.get(entry, ())) == ndim else default
  fields = _mixste(size, shapes, heads) if name == "mixste" else _videopose(size, shapes, causal, num_frames, label)
  if arrays and name != "mixste":
    raise ValueError(f"{label} has LoRA layers in VideoPose3D, which PoSynDA's code does not make: expected them in MixSTE")
  if sum(math.prod(np.shape(value)) for value in (*network.values(), *arrays.values())) > MAX_NUMBERS:
    raise ValueError(f"{label} holds more than {MAX_NUMBERS:,} numbers: it is refused")
  modules = torch_modules({"denoiser": name, **fields})
  wanted = state_shapes({"denoiser": name, **fields}, modules, label)
  if arrays:
    ranks = [np.shape(value)[0] for entry, value in arrays.items() if entry.endswith(".down") and np.ndim(value) == 2]
    shapes |= {entry: np.shape(value) for entry, value in arrays.items()}
    wanted |= _lora_shapes(modules, wanted, min(ranks, default=1))
  shapes = {entry: shape for entry, shape in shapes.items() if not entry.endswith(".num_batches_tracked")}
  check(shapes, wanted, label, torch_names.injected_name if arrays else str)
  numbers = {entry: _float32(entry, value, label) for entry, value in {**network, **arrays}.items() if entry in wanted}
  variables = torch_names.params_from_torch({entry: numbers[entry] for entry in network if entry in wanted})
  variables = reorder_joints(variables, joint_order, name, fields["num_joints"], label)
  tree = torch_names.lora_from_torch({entry: numbers[entry] for entry in arrays}) if arrays else None
  return Found(name, fields, variables, tree, torch_schedule.check(buffers, label))


def _mixste(size, shapes: Mapping, heads: int) -> dict[str, Any]:
  """Fields of MixSTE as its shapes say; the published ones where an array is missing (which is told later)."""
  width = size("Spatial_patch_to_embedding.weight", 0, 2, size("Spatial_norm.weight", 0, 1, 512))
  inputs = size("Spatial_patch_to_embedding.weight", 1, 2, 5 if "time_mlp.1.weight" in shapes else 2)
  depths = {int(found[1]) for entry in shapes if (found := re.match(r"[ST]TEblocks\.(\d{1,4})\.", entry))}
  return {
      "num_joints": size("Spatial_pos_embed", 1, 3, 17), "num_frames": size("Temporal_pos_embed", 1, 3, 243), "width": width,
      "depth": min(max(depths, default=7) + 1, 2 * len(depths) + 8), "num_heads": heads,
      "mlp_ratio": size("STEblocks.0.mlp.fc1.weight", 0, 2, 2 * width) / max(width, 1), "diffusion": inputs == 5,
  }


def _videopose(size, shapes: Mapping, causal: bool, num_frames: int | None, label: str) -> dict[str, Any]:
  """Fields of VideoPose3D as its shapes say."""
  layers = {int(found[1]) for entry in shapes if (found := re.match(r"layers_conv\.(\d{1,4})\.", entry))}
  count = min(max(layers, default=-1) + 1, 2 * len(layers) + 2)
  widths = [size(f"layers_conv.{i}.weight", 2, 3, 3) for i in range(0, count, 2)]
  widths = [size("expand_conv.weight", 2, 3, 3), *widths]
  if widths[1:] and widths[0] > 1 and widths == [(widths[0] - 1) * widths[0] ** i + 1 for i in range(len(widths))]:
    raise ValueError(f"{label} has filter widths {widths}: it was trained with --dense; expected dilated convolutions")
  return {
      "num_joints": size("shrink.weight", 0, 3, 51) // 3, "num_frames": num_frames or math.prod(widths),
      "filter_widths": widths, "channels": size("expand_conv.weight", 0, 3, 1024), "causal": causal, "diffusion": False,
  }


def torch_modules(config: Mapping[str, Any]) -> list[str]:
  """The reference's modules of the model that `config` makes. Raises ValueError where it has no such model."""
  model = make_model(config)
  if config.get("denoiser", "mixste") == "mixste":
    return torch_names.mixste_modules(model.depth, model.diffusion)
  if model.diffusion:
    raise ValueError("VideoPose as a diffusion denoiser has no PyTorch original: keep it as a folder or a .safetensors file")
  return torch_names.videopose_modules(len(model.filter_widths))


def state_shapes(config: Mapping[str, Any], modules: list[str], label: str) -> dict[str, tuple[int, ...]]:
  """Names and shapes of the reference's state dict of the model that `config` makes."""
  model = make_model(config)
  shape = (1, model.num_frames, model.num_joints)
  try:
    inputs = [jax.ShapeDtypeStruct(shape + (n,), jnp.float32) for n in (2, 3)] + [jax.ShapeDtypeStruct((1,), jnp.int32)]
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
  except (TypeError, ValueError, ZeroDivisionError) as error:
    raise ValueError(f"{label} has shapes of which no network can be made ({error}): check --heads") from error
  hollow = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables)
  state = torch_names.params_to_torch({name: hollow[name] for name in ("params", "batch_stats") if name in hollow}, modules)
  return {name: value.shape for name, value in state.items() if not name.endswith(".num_batches_tracked")}


def _lora_shapes(modules: list[str], wanted: Mapping, rank: int) -> dict[str, tuple[int, ...]]:
  shapes = {}
  for module in (module for module in modules if torch_names.is_adapted(module)):
    outputs, inputs = wanted[f"{module}.weight"]
    shapes |= {f"{module}.down": (rank, inputs), f"{module}.up": (outputs, rank)}
  return shapes


def check(shapes: Mapping[str, tuple], wanted: Mapping[str, tuple], label: str, spell=str) -> None:
  """Raises ValueError, one line, that lists the first missing, unexpected and mis-shaped names with their counts."""
  first = lambda names: ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
  missing = [spell(name) for name in wanted if name not in shapes]
  unexpected = [spell(name) for name in shapes if name not in wanted]
  wrong = [f"{spell(name)} {shapes[name]} where {wanted[name]} is expected" for name in wanted
           if name in shapes and shapes[name] != wanted[name]]
  parts = [f"{len(names)} {what} ({first(names)})" for what, names in
           (("missing", missing), ("unexpected", unexpected), ("mis-shaped", wrong)) if names]
  if parts:
    raise ValueError(f"{label} is not a whole checkpoint of the network it looks like: {'; '.join(parts)}")


def _float32(name: str, value: np.ndarray, label: str) -> np.ndarray:
  numbers = value.astype(np.float32)
  if not np.isfinite(numbers).all():
    raise ValueError(f"{label}: {name} holds values that are not finite numbers; use an earlier checkpoint of that training")
  return numbers


def reorder_joints(variables: dict, order: str, name: str, num_joints: int, label: str) -> dict:
  """The same network for poses in Human3.6M-17 order, given one for poses in `order` of 17 joints.

  Exact: joints enter MixSTE by their position embedding only, and VideoPose by places in its first and last layer. Raises
  ValueError for an order that is unknown or not of the same 17 joints.
  """
  if order not in skeleton.ORDERS or sorted(skeleton.ORDERS[order]) != list(range(17)):
    raise ValueError(f"joint order {order!r} is unknown; choose one of "
                     f"{', '.join(key for key, value in skeleton.ORDERS.items() if sorted(value) == list(range(17)))}")
  if num_joints != 17:
    raise ValueError(f"{label} is for {num_joints} joints, expected the 17 of {order}")
  places = np.array(skeleton.ORDERS[order])
  params = dict(variables["params"])
  if name == "mixste":
    params["joint_position"] = params["joint_position"][places]
  else:
    split = lambda array, axis: array.reshape(array.shape[:axis] + (17, -1) + array.shape[axis + 1 :])
    by_joint = lambda array, axis: np.take(split(array, axis), places, axis).reshape(array.shape)
    params["expand_conv"] = {"kernel": by_joint(params["expand_conv"]["kernel"], 1)}
    params["shrink"] = {"kernel": by_joint(params["shrink"]["kernel"], 2), "bias": by_joint(params["shrink"]["bias"], 0)}
  return {**variables, "params": params}
