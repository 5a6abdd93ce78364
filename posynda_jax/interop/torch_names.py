"""The PyTorch names and layouts of the reference networks, and the conversion of their arrays to our trees and back.

    MixSTE, D3DP, PoSynDA:  STEblocks.0.attn.qkv.weight (out, in)  <->  params/spatial_0/attention/qkv/kernel [in out]
    VideoPose3D:            layers_conv.0.weight (out, in, width)  <->  params/conv_0/kernel [width in out]
                            layers_bn.0.running_mean               <->  batch_stats/bn_0/mean
    after LoRA injection:   <module>.linear.weight, <module>.lora_down.weight (r, in), <module>.lora_up.weight (out, r)

Works on dictionaries of NumPy arrays, under names without `module.` or `pose_estimator.`: files are another file's business.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

# Reference module -> ours, matched in this order; {i} is the depth.
_MODULES = (
    (r"Spatial_patch_to_embedding", "embed"),
    (r"time_mlp\.1", "time_in"),
    (r"time_mlp\.3", "time_out"),
    (r"STEblocks\.(\d+)\.", "spatial_{}/"),
    (r"TTEblocks\.(\d+)\.", "temporal_{}/"),
    (r"Spatial_norm", "spatial_norm"),
    (r"Temporal_norm", "temporal_norm"),
    (r"attn\.", "attention/"),
    (r"mlp\.fc1", "mlp_in"),
    (r"mlp\.fc2", "mlp_out"),
    (r"head\.0", "head_norm"),
    (r"head\.1", "head"),
    (r"layers_conv\.(\d+)", "conv_{}"),
    (r"layers_bn\.(\d+)", "bn_{}"),
)
_POSITIONS = {"Spatial_pos_embed": "joint_position", "Temporal_pos_embed": "frame_position"}
_BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_STATISTICS = {"running_mean": "mean", "running_var": "var"}
_UNUSED = "num_batches_tracked"  # how many batches the running statistics saw; evaluation and training by momentum ignore it
_ADAPTED = r"(STEblocks|TTEblocks)\.\d+\.attn\.(qkv|proj)"  # what PoSynDA's code injects: every Linear of every attention
_INJECTED = {"linear.weight": "weight", "linear.bias": "bias", "lora_down.weight": "down", "lora_up.weight": "up"}


def mixste_modules(depth: int, diffusion: bool) -> list[str]:
  """The reference's modules of MixSTE in its order."""
  blocks = [f"{kind}.{i}.{part}" for kind in ("STEblocks", "TTEblocks") for i in range(depth) for part in _BLOCK]
  time = ["time_mlp.1", "time_mlp.3"] if diffusion else []
  return ["Spatial_patch_to_embedding", *time, *blocks, "Spatial_norm", "Temporal_norm", "head.0", "head.1"]


def videopose_modules(num_widths: int) -> list[str]:
  """The reference's modules of VideoPose3D's model with that many filter widths, in its order."""
  layers = range(2 * (num_widths - 1))
  return ["expand_bn", "shrink", "expand_conv", *(f"layers_conv.{i}" for i in layers), *(f"layers_bn.{i}" for i in layers)]


def module_path(torch_module: str) -> str:
  """Our path of a reference module: `STEblocks.0.attn.qkv` -> `spatial_0/attention/qkv`."""
  for pattern, ours in _MODULES:
    torch_module = re.sub(pattern, lambda m: ours.format(*m.groups()), torch_module)
  return torch_module


def params_from_torch(state: Mapping[str, np.ndarray]) -> dict:
  """The Flax variables of a network from the reference's arrays: `params`, and `batch_stats` where it has batch norms.

  Linear weights (out, in) are transposed to kernels [in out] and convolutions' (out, in, width) to [width in out]; weights of
  norms become scales.
  """
  flat = {}
  for name, value in state.items():
    value = np.asarray(value)
    if name in _POSITIONS:
      flat[f"params/{_POSITIONS[name]}"] = value[0]
      continue
    module, kind = name.rsplit(".", 1)
    path = module_path(module)
    if kind in _STATISTICS:
      flat[f"batch_stats/{path}/{_STATISTICS[kind]}"] = value
    elif kind == "weight":
      flat[f"params/{path}/{'kernel' if value.ndim > 1 else 'scale'}"] = value.T
    elif kind != _UNUSED:
      flat[f"params/{path}/{kind}"] = value
  return unflatten_dict(flat, sep="/")


def params_to_torch(variables: Mapping, modules: Iterable[str]) -> dict[str, np.ndarray]:
  """The reference's arrays of our variables, in the order of its `modules`: what `params_from_torch` undoes.

  Raises ValueError for variables that none of the modules has.
  """
  flat = {name: np.asarray(value) for name, value in flatten_dict(dict(variables), sep="/").items()}
  state = {}
  for name, ours in _POSITIONS.items():
    if f"params/{ours}" in flat:
      state[name] = flat.pop(f"params/{ours}")[None]
  for module in modules:
    path = module_path(module)
    for kind, ours in (("weight", "kernel"), ("weight", "scale"), ("bias", "bias")):
      if f"params/{path}/{ours}" in flat:
        state[f"{module}.{kind}"] = flat.pop(f"params/{path}/{ours}").T
    if f"batch_stats/{path}/mean" in flat:
      state |= {f"{module}.{kind}": flat.pop(f"batch_stats/{path}/{ours}") for kind, ours in _STATISTICS.items()}
      state[f"{module}.{_UNUSED}"] = np.zeros((), np.int64)
  if flat:
    raise ValueError(f"{', '.join(sorted(flat)[:4])}: the reference has no such modules ({len(flat)} arrays in all)")
  return {name: np.ascontiguousarray(value) if value.ndim else value for name, value in state.items()}


def lora_from_torch(arrays: Mapping[str, np.ndarray]) -> dict:
  """Our adapter's `lora` tree from reference arrays `<module>.down` (r, in) and `<module>.up` (out, r)."""
  tree: dict = {}
  for name, value in arrays.items():
    module, kind = name.rsplit(".", 1)
    tree.setdefault(module_path(module), {})[{"down": "a", "up": "b"}[kind]] = np.asarray(value).T
  return tree


def lora_to_torch(lora: Mapping[str, Mapping], modules: Iterable[str]) -> dict[str, np.ndarray]:
  """The reference's `<module>.down` and `<module>.up` of an adapter's `lora` tree: what `lora_from_torch` undoes."""
  names = {module_path(module): module for module in modules}
  arrays = {}
  for path, factors in lora.items():
    arrays[f"{names[path]}.down"] = np.ascontiguousarray(np.asarray(factors["a"]).T)
    arrays[f"{names[path]}.up"] = np.ascontiguousarray(np.asarray(factors["b"]).T)
  return arrays


def is_adapted(module: str) -> bool:
  """Whether LoRA injection replaces that module of the reference."""
  return re.fullmatch(_ADAPTED, module) is not None


def injected_name(name: str) -> str:
  """Name after LoRA injection: of an adapted module, `.weight` -> `.linear.weight`, `.down` -> `.lora_down.weight`."""
  module, _, kind = name.rpartition(".")
  part = next((part for part, plain in _INJECTED.items() if plain == kind), None)
  return f"{module}.{part}" if part and is_adapted(module) else name


def eject(state: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
  """(state as before LoRA injection, arrays `<module>.down` and `<module>.up`); the second is empty without injection."""
  plain, arrays = {}, {}
  for name, value in state.items():
    module, _, kind = name.rpartition(".")
    module, _, part = module.rpartition(".")
    kind = _INJECTED.get(f"{part}.{kind}")
    (arrays if kind in ("down", "up") else plain)[f"{module}.{kind}" if kind else name] = value
  return plain, arrays


def inject(state: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The state after LoRA injection, under the names that LoRA gives: what `eject` undoes."""
  injected = {}
  for name, value in state.items():
    injected[injected_name(name)] = value
    module, _, kind = name.rpartition(".")
    if kind == "bias" and is_adapted(module):  # the last of the layer's own
      injected |= {injected_name(f"{module}.{part}"): arrays[f"{module}.{part}"] for part in ("down", "up")}
  return injected
