"""PyTorch names and layouts of the reference networks, and the conversion of their arrays to our trees and back.

    MixSTE, D3DP, PoSynDA:  STEblocks.0.attn.qkv.weight (out, in)  <->  params/spatial_0/attention/qkv/kernel [in out]
    VideoPose3D:            layers_conv.0.weight (out, in, width)  <->  params/conv_0/kernel [width in out]
                            layers_bn.0.running_mean               <->  batch_stats/bn_0/mean
    after LoRA injection:   <module>.linear.weight, <module>.lora_down.weight (r, in), <module>.lora_up.weight (out, r)
    D3DP:                   12 buffers of the noise schedule, which follow from T

All functions take and return NumPy arrays by name, without the prefixes `module.` and `pose_estimator.`.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from posynda_jax.diffusion import process

_MODULES = (  # reference -> ours, replaced in this order; {} is the depth
    (r"Spatial_patch_to_embedding", "embed"), (r"time_mlp\.1", "time_in"), (r"time_mlp\.3", "time_out"),
    (r"STEblocks\.(\d+)\.", "spatial_{}/"), (r"TTEblocks\.(\d+)\.", "temporal_{}/"),
    (r"attn\.", "attention/"), (r"mlp\.fc1", "mlp_in"), (r"mlp\.fc2", "mlp_out"),
    (r"Spatial_norm", "spatial_norm"), (r"Temporal_norm", "temporal_norm"),
    (r"head\.0", "head_norm"), (r"head\.1", "head"),
    (r"layers_conv\.(\d+)", "conv_{}"), (r"layers_bn\.(\d+)", "bn_{}"),
)
_POSITIONS = {"Spatial_pos_embed": "joint_position", "Temporal_pos_embed": "frame_position"}
_STATISTICS = {"running_mean": "mean", "running_var": "var"}
UNUSED = "num_batches_tracked"  # a counter of batch norm, which neither evaluation nor training by momentum reads
_INJECTED = {"linear.weight": "weight", "linear.bias": "bias", "lora_down.weight": "down", "lora_up.weight": "up"}


def module_path(torch_module: str) -> str:
  """Our path of a reference module: `STEblocks.0.attn.qkv` -> `spatial_0/attention/qkv`."""
  for pattern, ours in _MODULES:
    torch_module = re.sub(pattern, lambda match: ours.format(*match.groups()), torch_module)
  return torch_module


def params_from_torch(state: Mapping[str, np.ndarray]) -> dict:
  """The Flax variables of the reference's arrays: `params`, and `batch_stats` if the network has batch norms.

  Linear weights (out, in) are transposed to kernels [in out], and weights of convolutions (out, in, width) to
  [width in out]. Weights of norms become scales.
  """
  flat = {}
  for name, value in state.items():
    value = np.asarray(value)
    module, _, kind = name.rpartition(".")
    if name in _POSITIONS:
      flat[f"params/{_POSITIONS[name]}"] = value[0]
    elif kind in _STATISTICS:
      flat[f"batch_stats/{module_path(module)}/{_STATISTICS[kind]}"] = value
    elif kind != UNUSED:
      weight = "kernel" if value.ndim > 1 else "scale"
      flat[f"params/{module_path(module)}/{weight if kind == 'weight' else kind}"] = value.T
  return unflatten_dict(flat, sep="/")


def params_to_torch(variables: Mapping, modules: Iterable[str]) -> dict[str, np.ndarray]:
  """The reference's arrays of our variables, in the order of its `modules`: the inverse of `params_from_torch`.

  Raises ValueError for variables of no such module.
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
      state[f"{module}.{UNUSED}"] = np.zeros((), np.int64)
  if flat:
    raise ValueError(f"{', '.join(sorted(flat)[:4])}: the reference has no such modules ({len(flat)} arrays in all)")
  return {name: np.asarray(value, order="C") for name, value in state.items()}


def lora_from_torch(arrays: Mapping[str, np.ndarray]) -> dict:
  """Our adapter's `lora` tree from reference arrays `<module>.down` (r, in) and `<module>.up` (out, r)."""
  tree: dict = {}
  for name, value in arrays.items():
    module, kind = name.rsplit(".", 1)
    tree.setdefault(module_path(module), {})[{"down": "a", "up": "b"}[kind]] = np.asarray(value).T
  return tree


def lora_to_torch(lora: Mapping[str, Mapping], modules: Iterable[str]) -> dict[str, np.ndarray]:
  """The reference's `<module>.down` and `<module>.up` of a `lora` tree: the inverse of `lora_from_torch`."""
  names = {module_path(module): module for module in modules}
  return {
      f"{names[path]}.{kind}": np.ascontiguousarray(np.asarray(factors[ours]).T)
      for path, factors in lora.items() for kind, ours in (("down", "a"), ("up", "b"))
  }


def is_adapted(module: str) -> bool:
  """Whether LoRA injection replaces this module of the reference: every Linear of every attention."""
  return re.fullmatch(r"(STEblocks|TTEblocks)\.\d+\.attn\.(qkv|proj)", module) is not None


def eject(state: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
  """(state before LoRA injection, arrays `<module>.down` and `<module>.up`). The second is empty without injection."""
  plain, factors = {}, {}
  for name, value in state.items():
    module, *parts = name.rsplit(".", 2)
    kind = _INJECTED.get(".".join(parts))
    (factors if kind in ("down", "up") else plain)[f"{module}.{kind}" if kind else name] = value
  return plain, factors


def inject(state: Mapping[str, np.ndarray], factors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The state after LoRA injection, in the order and under the names of PoSynDA's code: the inverse of `eject`."""
  parts, injected = {plain: part for part, plain in _INJECTED.items()}, {}
  for name, value in state.items():
    module, _, kind = name.rpartition(".")
    injected[f"{module}.{parts[kind]}" if is_adapted(module) else name] = value
    if is_adapted(module) and kind == "bias":  # the factors follow the bias
      injected |= {f"{module}.{parts[factor]}": factors[f"{module}.{factor}"] for factor in ("down", "up")}
  return injected


def schedule_buffers(num_steps: int) -> dict[str, np.ndarray]:
  """D3DP's 12 buffers (T,) of our cosine schedule, float64, under its names."""
  schedule = process.cosine_schedule(num_steps)
  betas, abar, before = schedule.betas, schedule.alpha_bar, np.append(1.0, schedule.alpha_bar[:-1])
  variance = betas * (1 - before) / (1 - abar)
  return {
      "betas": betas, "alphas_cumprod": abar, "alphas_cumprod_prev": before, "sqrt_alphas_cumprod": np.sqrt(abar),
      "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - abar), "log_one_minus_alphas_cumprod": np.log(1 - abar),
      "sqrt_recip_alphas_cumprod": np.sqrt(1 / abar), "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / abar - 1),
      "posterior_variance": variance,
      "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
      "posterior_mean_coef1": betas * np.sqrt(before) / (1 - abar),
      "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - abar),
  }
