"""A base or an adapter as one `.safetensors` file, which holds numbers and text only: nothing in it can run.

Tensors have their tree's paths as names (`params/embed/kernel`; of an adapter `lora/spatial_0/attention/qkv/a`,
`delta/spatial_0/norm1/scale` and `bias`). The metadata entry `posynda_jax` is JSON that says what the tree is:

    {"kind": "base", "config": {...the run's config...}, "digest": ...}
    {"kind": "adapter", "base_digest": ..., "adapt": {...AdaptConfig...}, "digest": ...}

Files may be kept in 16 bits. A tree is always float32 in memory, and `digest` is that of the tree as it is read back.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from posynda_jax.runtime import checkpoint

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(jnp.bfloat16)}
_ENTRY = "posynda_jax"
_WITH_ARTICLE = {"base": "a base", "adapter": "an adapter"}


def save_base(path, params: PyTree, config: Mapping[str, Any], dtype: str | None = None) -> str:
  """Writes the variables of a base with their run's config; returns the digest of what `load_base` will read.

  `dtype` is the type on disk, one of DTYPES (float32 when None). Raises ValueError for an unknown one, or values it
  cannot hold.
  """
  return _write(path, flatten_dict(dict(params), sep="/"), {"kind": "base", "config": dict(config)}, dtype)


def load_base(path) -> tuple[dict, dict[str, Any]]:
  """(variables in float32, config) of a base. Raises FileNotFoundError; ValueError for another kind of file or a
  damaged one.
  """
  tree, header = read(path, "base")
  return tree, header["config"]


def save_adapter(path, adapter: PyTree, base_digest: str, adapt_config: Mapping[str, Any], dtype: str | None = None) -> str:
  """Writes an adapter with the digest of its base and its AdaptConfig as a dict; returns and raises as `save_base`."""
  header = {"kind": "adapter", "base_digest": base_digest, "adapt": dict(adapt_config)}
  return _write(path, flatten_dict(dict(adapter), sep="/"), header, dtype)


def load_adapter(path, base_digest: str) -> tuple[dict, dict[str, Any]]:
  """(adapter in float32, AdaptConfig as a dict). Raises as `load_base` does, and ValueError for an adapter of another
  base.
  """
  tree, header = read(path, "adapter")
  if header["base_digest"] != base_digest:
    raise ValueError(f"{path} is an adapter of base {header['base_digest']}, the base here is {base_digest}: give the base it "
                     "was trained on")
  return tree, header["adapt"]


def read(path, kind: str | None = None) -> tuple[dict, dict[str, Any]]:
  """(tree in float32, header) of a file, of any kind when `kind` is None. Raises as `load_base` does."""
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a file")
  try:
    with safetensors.safe_open(path, "numpy") as file:
      header = json.loads((file.metadata() or {}).get(_ENTRY, "null"))
      if header is None:
        raise ValueError(f"{path} is a safetensors file of another program: it lacks the metadata {_ENTRY!r}")
      if kind is not None and header["kind"] != kind:
        raise ValueError(f"{path} holds {_WITH_ARTICLE[header['kind']]}, expected {_WITH_ARTICLE[kind]}")
      flat = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}
      tree = _tree({name: jnp.asarray(value) for name, value in flat.items()}, header["kind"])
  except (safetensors.SafetensorError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{path} is no whole safetensors file of ours ({type(error).__name__}: {error}): fetch it anew") from error
  if (found := checkpoint.digest(tree)) != header.get("digest"):
    raise ValueError(f"{path} is damaged: its numbers have digest {found}, its header says {header.get('digest')}: fetch it anew")
  return tree, header


def _tree(flat: Mapping[str, Any], kind: str) -> dict:
  """The tree of tensor names. In an adapter, a module's path is one key."""
  if kind == "base":
    return unflatten_dict(dict(flat), sep="/")

  def split(name):
    part, _, path = name.partition("/")
    return (part, *path.rsplit("/", 1)) if part == "lora" else tuple(name.split("/", 1))

  return unflatten_dict({split(name): value for name, value in flat.items()})


def _write(path, flat: Mapping[str, Any], header: dict[str, Any], dtype: str | None) -> str:
  """Writes beside `path`, then renames: a reader sees the old file or the whole new one."""
  if (dtype := dtype or "float32") not in DTYPES:
    raise ValueError(f"type {dtype!r} on disk is unknown; choose one of {', '.join(DTYPES)}")
  with np.errstate(over="ignore"):
    stored = {name: np.ascontiguousarray(np.asarray(value, np.float32).astype(DTYPES[dtype])) for name, value in flat.items()}
  rounded = {name: value.astype(np.float32) for name, value in stored.items()}
  if wrong := [name for name, value in rounded.items() if not np.isfinite(value).all()]:
    raise ValueError(f"{wrong[0]} and {len(wrong) - 1} more hold values that {dtype} on disk cannot: choose another type")
  header = {**header, "digest": checkpoint.digest(_tree(rounded, header["kind"]))}
  path = pathlib.Path(path).expanduser()
  beside = path.with_name(path.name + ".part")
  try:
    beside.write_bytes(safetensors.numpy.save(stored, {_ENTRY: json.dumps(header, sort_keys=True)}))
    os.replace(beside, path)
  finally:
    beside.unlink(missing_ok=True)
  return header["digest"]
