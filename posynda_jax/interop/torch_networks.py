"""The network of a PyTorch state dict, recognised by names and shapes, checked array by array and converted.

`Spatial_patch_to_embedding` of MixSTE takes 2 numbers in the plain lifter, 5 in the denoiser of D3DP and PoSynDA.
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
from posynda_jax.interop import torch_names

KEYS = ("model_pos", "state_dict", "model_state_dict", "model", "net", "model_weight")  # that hold a state dict
_PREFIXES = ("module.", "pose_estimator.", "model.", "_orig_mod.")
_MARKS = {
    "mixste": r"(STEblocks|TTEblocks|Spatial_|Temporal_|time_mlp)",
    "videopose": r"(layers_conv|layers_bn|expand_|shrink)",
}
_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_BUFFERS = frozenset(torch_names.schedule_buffers(2))
_ORDERS = {name: order for name, order in skeleton.ORDERS.items() if sorted(order) == list(range(17))}
MAX_NUMBERS = 2**31  # in one network; the published ones have up to 35 million
MAX_STEPS = 100_000  # T of a checkpoint's schedule


@dataclasses.dataclass(frozen=True)
class Hints:
  """Facts that names and shapes do not show. For None, a file of ours has the value; other files take the default."""

  heads: int | None = None  # attention heads of MixSTE; default 8
  causal: bool | None = None  # for VideoPose3D; default False
  num_frames: int | None = None  # frames of a clip, for VideoPose3D; default its receptive field
  diffusion_steps: int | None = None  # T, for a file without schedule buffers; default 1000
  clip_fps: float | None = None  # frame rate of the clips; default 50
  joint_order: str | None = None  # joint order of the training data, in `skeleton.ORDERS`; default h36m17


def find_state(value: Any, label: str) -> tuple[dict[str, np.ndarray], str]:
  """(arrays by name, their key or "") in the data of a checkpoint. Raises ValueError that lists the keys found."""
  at, keys = value, []
  while isinstance(at, dict) and len(keys) < 4 and (inside := [k for k in KEYS if isinstance(at.get(k), dict)]):
    keys.append(inside[0])
    at = at[inside[0]]
  items = at.items() if isinstance(at, dict) else ()
  if not (state := {name: item for name, item in items if isinstance(name, str) and isinstance(item, np.ndarray)}):
    held = f"keys {', '.join(map(str, list(at)[:6])) or 'none'}" if isinstance(at, dict) else f"a {type(at).__name__}"
    raise ValueError(f"{label} holds no state dict ({held}): expected arrays by name, bare or under {', '.join(KEYS)}")
  return state, ".".join(keys)


def recognise(state: Mapping[str, np.ndarray], label: str, hints: Hints = Hints()) -> tuple[dict, dict, dict, int]:
  """(config of the model, Flax variables, `lora` tree, T of the schedule buffers) of a state dict.

  Joints are in Human3.6M's order. The tree is empty without LoRA layers, T is 0 without buffers. Raises ValueError that
  lists missing, unexpected and mis-shaped names, and for a noise schedule that is not ours.
  """
  network, buffers = _strip(state, label)
  plain, factors = torch_names.eject(network)
  votes = {kind: sum(bool(re.match(mark, name)) for name in plain) for kind, mark in _MARKS.items()}
  kind = max(votes, key=votes.get)
  if not votes[kind]:
    found = ", ".join(list(plain)[:4]) or "none"
    raise ValueError(f"{label} is neither MixSTE nor VideoPose3D: its arrays are {found} ...")
  if factors and kind != "mixste":
    raise ValueError(f"{label} has LoRA layers in VideoPose3D, which PoSynDA's code puts into MixSTE only")
  if sum(math.prod(np.shape(value)) for value in network.values()) > MAX_NUMBERS:
    raise ValueError(f"{label} holds more than {MAX_NUMBERS:,} numbers: it is refused")
  shapes = {name: np.shape(value) for name, value in plain.items()}
  try:
    model = _mixste(shapes, hints) if kind == "mixste" else _videopose(shapes, hints, label)
  except (KeyError, IndexError) as error:
    problem = f"1 missing ({error.args[0]})" if isinstance(error, KeyError) else "an array lacks an axis"
    raise ValueError(f"{label} is not a whole checkpoint of the network it looks like: {problem}") from error
  modules = torch_modules(model)
  wanted = state_shapes(model, modules, label)
  if factors:
    rank = min((len(value) for name, value in factors.items() if name.endswith(".down") and np.ndim(value)), default=1)
    shapes = {}
    for module in filter(torch_names.is_adapted, modules):
      outputs, inputs = wanted[f"{module}.weight"]
      shapes |= {f"{module}.down": (rank, inputs), f"{module}.up": (outputs, rank)}
    wanted = torch_names.inject(wanted, shapes)
  _check_shapes({name: np.shape(value) for name, value in network.items()}, wanted, label)
  network = {name: network[name].astype(np.float32) for name in wanted}
  if bad := [name for name, value in network.items() if not np.isfinite(value).all()]:
    raise ValueError(f"{label}: {bad[0]} holds values that are not finite numbers; use an earlier checkpoint")
  plain, factors = torch_names.eject(network)
  variables = torch_names.params_from_torch(plain)
  variables = _reorder_joints(variables, hints.joint_order or "h36m17", model["num_joints"], label)
  return model, variables, torch_names.lora_from_torch(factors), _check_schedule(buffers, label)


def torch_modules(config: Mapping[str, Any]) -> list[str]:
  """The reference's modules, in its order, of the model that `config` makes. Raises ValueError if it has none."""
  model = make_model(config)
  if config.get("denoiser", "mixste") == "mixste":
    depths = range(model.depth)
    blocks = [f"{kind}.{i}.{part}" for kind in ("STEblocks", "TTEblocks") for i in depths for part in _BLOCK]
    time = ["time_mlp.1", "time_mlp.3"] if model.diffusion else []
    return ["Spatial_patch_to_embedding", *time, *blocks, "Spatial_norm", "Temporal_norm", "head.0", "head.1"]
  if model.diffusion:
    raise ValueError("VideoPose as a diffusion denoiser has no PyTorch original: write a folder or a .safetensors file")
  layers = range(2 * (len(model.filter_widths) - 1))
  return ["expand_bn", "shrink", "expand_conv", *(f"layers_{kind}.{i}" for kind in ("conv", "bn") for i in layers)]


def state_shapes(config: Mapping[str, Any], modules: list[str], label: str) -> dict[str, tuple[int, ...]]:
  """Names and shapes of the reference's state dict of the model that `config` makes."""
  model = make_model(config)
  shape = (1, model.num_frames, model.num_joints)
  inputs = [jax.ShapeDtypeStruct(shape + (n,), jnp.float32) for n in (2, 3)] + [jax.ShapeDtypeStruct((1,), jnp.int32)]
  try:
    variables = jax.eval_shape(model.init, jax.random.key(0), *inputs)
  except (TypeError, ValueError, ZeroDivisionError) as error:
    raise ValueError(f"{label} has shapes of which no network can be made ({error}): check --heads") from error
  hollow = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), variables)
  state = torch_names.params_to_torch({k: hollow[k] for k in ("params", "batch_stats") if k in hollow}, modules)
  return {name: value.shape for name, value in state.items() if not name.endswith(torch_names.UNUSED)}


def _strip(state: Mapping[str, np.ndarray], label: str) -> tuple[dict, dict]:
  """(arrays of the network, D3DP's schedule buffers), without prefixes. Raises ValueError if two names then agree."""
  network, buffers = {}, {}
  for name, value in state.items():
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None):
      name = name.removeprefix(prefix)
    kept = buffers if name in _BUFFERS else network
    if name in kept:
      raise ValueError(f"{label} holds {name} twice, under different prefixes: convert a checkpoint of one network")
    kept[name] = value
  return network, buffers


def _mixste(shapes: Mapping[str, tuple], hints: Hints) -> dict[str, Any]:
  """Config of MixSTE. Raises KeyError or IndexError for a missing array or axis."""
  embed = shapes["Spatial_patch_to_embedding.weight"]
  depths = {found[1] for name in shapes if (found := re.match(r"[ST]TEblocks\.(\d+)\.", name))}
  return {
      "num_joints": shapes["Spatial_pos_embed"][1], "num_frames": shapes["Temporal_pos_embed"][1], "width": embed[0],
      "depth": len(depths), "num_heads": hints.heads or 8,
      "mlp_ratio": shapes["STEblocks.0.mlp.fc1.weight"][0] / max(embed[0], 1), "diffusion": embed[1] == 5,
  }


def _videopose(shapes: Mapping[str, tuple], hints: Hints, label: str) -> dict[str, Any]:
  """Config of VideoPose3D, as `_mixste`. Raises ValueError for a model trained with --dense."""
  layers = {found[1] for name in shapes if (found := re.match(r"layers_conv\.(\d+)\.", name))}
  first = shapes["expand_conv.weight"][2]
  widths = [first, *(shapes[f"layers_conv.{i}.weight"][2] for i in range(0, len(layers), 2))]
  if len(widths) > 1 and first > 1 and widths == [(first - 1) * first**i + 1 for i in range(len(widths))]:
    raise ValueError(f"{label} has filter widths {widths}: it was trained with --dense; expected dilated convolutions")
  return {
      "denoiser": "videopose", "num_joints": shapes["shrink.weight"][0] // 3,
      "num_frames": hints.num_frames or math.prod(widths), "filter_widths": widths,
      "channels": shapes["expand_conv.weight"][0], "causal": bool(hints.causal), "diffusion": False,
  }


def _check_shapes(shapes: Mapping[str, tuple], wanted: Mapping[str, tuple], label: str) -> None:
  """Raises ValueError, one line, that lists the first missing, unexpected and mis-shaped names with their counts."""
  problems = {
      "missing": [name for name in wanted if name not in shapes],
      "unexpected": [name for name in shapes if name not in wanted and not name.endswith(torch_names.UNUSED)],
      "mis-shaped": [
          f"{name} {shapes[name]} where {shape} is expected"
          for name, shape in wanted.items() if shapes.get(name, shape) != shape
      ],
  }
  texts = {problem: ", ".join(names[:3]) + " ..." * (len(names) > 3) for problem, names in problems.items()}
  if listed := "; ".join(f"{len(problems[problem])} {problem} ({text})" for problem, text in texts.items() if text):
    raise ValueError(f"{label} is not a whole checkpoint of the network it looks like: {listed}")


def _check_schedule(buffers: Mapping[str, np.ndarray], label: str) -> int:
  """T of the schedule buffers, 0 without buffers. Raises ValueError if they are not of our cosine schedule."""
  if not buffers:
    return 0
  shapes = sorted({np.shape(value) for value in buffers.values()})
  if len(shapes) > 1 or len(shapes[0]) != 1 or not 1 <= shapes[0][0] <= MAX_STEPS:
    raise ValueError(f"{label}: its schedule buffers have shapes {shapes[:3]}, expected (T,) for all of them")
  num_steps = shapes[0][0]
  ours = torch_names.schedule_buffers(num_steps)
  for name, value in buffers.items():
    if not np.allclose(np.asarray(value, np.float64), ours[name], rtol=1e-4, atol=1e-6):
      raise ValueError(
          f"{label}: its buffer {name} is not that of the cosine schedule of {num_steps} steps: a network trained with "
          "another schedule would give wrong poses here"
      )
  return num_steps


def _reorder_joints(variables: dict, order: str, num_joints: int, label: str) -> dict:
  """The same network for poses in Human3.6M-17 order, from one for poses in `order`.

  Exact, because joints enter MixSTE by their position embedding only, and VideoPose by places in its first and last
  layer. Raises ValueError for an unknown order, and for a network of other than 17 joints.
  """
  if order not in _ORDERS:
    raise ValueError(f"joint order {order!r} is unknown; choose one of {', '.join(_ORDERS)}")
  if num_joints != 17:
    raise ValueError(f"{label} is for {num_joints} joints, expected the 17 of {order}")
  params = dict(variables["params"])

  def reorder(array: np.ndarray, axis: int) -> np.ndarray:
    """Reorders an axis of joints, or of joints and coordinates with the joint first."""
    split = array.reshape(array.shape[:axis] + (17, -1) + array.shape[axis + 1 :])
    return np.take(split, _ORDERS[order], axis).reshape(array.shape)

  if "joint_position" in params:
    params["joint_position"] = reorder(params["joint_position"], 0)
  else:
    params["expand_conv"] = {"kernel": reorder(params["expand_conv"]["kernel"], 1)}
    params["shrink"] = {"kernel": reorder(params["shrink"]["kernel"], 2), "bias": reorder(params["shrink"]["bias"], 0)}
  return {**variables, "params": params}
