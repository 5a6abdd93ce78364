"""The PyTorch names and layouts of the reference denoiser, as one table, and the conversion of its arrays to ours.

Works on dictionaries of NumPy arrays: how they are read from a file is another file's business.
"""

import re
from collections.abc import Mapping

import numpy as np

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
)
_POSITIONS = {"Spatial_pos_embed": "joint_position", "Temporal_pos_embed": "frame_position"}


def module_path(torch_module: str) -> str:
  """Our path of a reference module: `STEblocks.0.attn.qkv` -> `spatial_0/attention/qkv`."""
  for pattern, ours in _MODULES:
    torch_module = re.sub(pattern, lambda m: ours.format(*m.groups()), torch_module)
  return torch_module


def params_from_torch(state: Mapping[str, np.ndarray]) -> dict:
  """The Flax parameter tree of MixSTE from the reference's arrays (names without any `module.` prefix).

  Linear weights (out, in) are transposed to kernels [in out]; layer-norm weights become scales.
  """
  tree: dict = {}
  for name, value in state.items():
    value = np.asarray(value)
    if name in _POSITIONS:
      tree[_POSITIONS[name]] = value[0]
      continue
    module, kind = name.rsplit(".", 1)
    if kind == "weight":
      kind, value = ("kernel", value.T) if value.ndim == 2 else ("scale", value)
    *parents, last = module_path(module).split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node.setdefault(last, {})[kind] = value
  return {"params": tree}


def lora_from_torch(arrays: Mapping[str, np.ndarray]) -> dict:
  """Our adapter's `lora` tree from reference arrays `<module>.down` (r, in) and `<module>.up` (out, r)."""
  tree: dict = {}
  for name, value in arrays.items():
    module, kind = name.rsplit(".", 1)
    tree.setdefault(module_path(module), {})[{"down": "a", "up": "b"}[kind]] = np.asarray(value).T
  return tree
