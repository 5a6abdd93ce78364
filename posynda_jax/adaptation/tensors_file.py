"""A base or an adapter as one `.safetensors` file, which holds numbers and text only, so reading it runs no code.

A tensor's name is its path in the tree: `params/embed/kernel`; in an adapter `lora/spatial_0/attention/qkv/a`,
`delta/spatial_0/norm1/scale` or `bias`. The metadata entry `posynda_jax` is JSON that describes the tree:

    {"kind": "base", "config": {...the run's config...}, "digest": ...}
    {"kind": "adapter", "base_digest": ..., "adapt": {...the adapter's settings...}, "digest": ...}

The type on disk may have 16 bits. A tree in memory is float32, and `digest` is that of the tree as it is read.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from posynda_jax.runtime import checkpoint, files

DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(jnp.bfloat16)}
_ENTRY = "posynda_jax"
_WITH_ARTICLE = {"base": "a base", "adapter": "an adapter"}


def save_base(path, params: PyTree, config: Mapping[str, Any], dtype: str | None = None) -> str:
  """Writes the variables of a base and its run's config; returns the digest of the tree that `load_base` will read.

  `dtype` is the type on disk, one of DTYPES; None is float32. Raises ValueError for values that it cannot hold.
  """
  return _write(path, params, {"kind": "base", "config": dict(config)}, dtype)


def load_base(path) -> tuple[dict, dict[str, Any]]:
  """(variables in float32, config) of a base. Raises FileNotFoundError, and ValueError for another or damaged file."""
  tree, header = _read(path, "base")
  return tree, header["config"]


def save_adapter(path, adapter: PyTree, base_digest: str, settings: Mapping[str, Any], dtype: str | None = None) -> str:
  """Writes an adapter, the digest of its base and its settings; returns and raises as `save_base`."""
  return _write(path, adapter, {"kind": "adapter", "base_digest": base_digest, "adapt": dict(settings)}, dtype)


def load_adapter(path, base_digest: str) -> tuple[dict, dict[str, Any]]:
  """(adapter in float32, its settings). Raises as `load_base`, and ValueError for an adapter of another base."""
  tree, header = _read(path, "adapter")
  if header["base_digest"] != base_digest:
    found = header["base_digest"]
    raise ValueError(f"{path} is an adapter of base {found}, not of {base_digest}: give the base it was trained on")
  return tree, header["adapt"]


def _read(path, kind: str) -> tuple[dict, dict[str, Any]]:
  """(tree in float32, header) of a file of that kind."""
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a file")
  try:
    with safetensors.safe_open(path, "numpy") as file:
      header = json.loads((file.metadata() or {}).get(_ENTRY, "null"))
      if header is None:
        raise ValueError(f"{path} is a safetensors file of another program: it lacks the metadata {_ENTRY!r}")
      if header["kind"] != kind:
        raise ValueError(f"{path} holds {_WITH_ARTICLE[header['kind']]}, expected {_WITH_ARTICLE[kind]}")
      tree = _tree({name: jnp.asarray(file.get_tensor(name).astype(np.float32)) for name in file.keys()}, kind)
  except (safetensors.SafetensorError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
    problem = f"{type(error).__name__}: {error}"
    raise ValueError(f"{path} is no whole safetensors file of ours ({problem}): fetch it again") from error
  if (found := checkpoint.digest(tree)) != (said := header.get("digest")):
    raise ValueError(f"{path} is damaged: its numbers have digest {found}, its header says {said}: fetch it again")
  return tree, header


def _tree(flat: Mapping[str, Any], kind: str) -> dict:
  """The tree of tensor names. In an adapter, the path of a module or of a delta's leaf is one key."""
  if kind == "base":
    return unflatten_dict(dict(flat), sep="/")

  def split(name: str) -> list[str]:
    part, *path = name.split("/", 1)
    return [part, *path[0].rsplit("/", 1)] if path and part == "lora" else [part, *path]

  return unflatten_dict({tuple(split(name)): value for name, value in flat.items()})


def _write(path, tree: PyTree, header: dict[str, Any], dtype: str | None) -> str:
  """Writes the tree and its header; returns the digest of the tree as it will be read."""
  if (dtype := dtype or "float32") not in DTYPES:
    raise ValueError(f"type {dtype!r} on disk is unknown; choose one of {', '.join(DTYPES)}")
  with np.errstate(over="ignore"):
    flat = flatten_dict(jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(tree)), sep="/")
    stored = {name: np.asarray(value, DTYPES[dtype], order="C") for name, value in flat.items()}
  rounded = {name: value.astype(np.float32) for name, value in stored.items()}
  if wrong := [name for name, value in rounded.items() if not np.isfinite(value).all()]:
    raise ValueError(f"{wrong[0]} and {len(wrong) - 1} more hold values that {dtype} on disk cannot: choose another")
  header = {**header, "digest": checkpoint.digest(_tree(rounded, header["kind"]))}
  with files.writing(path) as file:
    file.write(safetensors.numpy.save(stored, {_ENTRY: json.dumps(header, sort_keys=True)}))
  return header["digest"]
