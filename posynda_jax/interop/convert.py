"""Bases and adapters between PyTorch checkpoints, run folders and `.safetensors` files.

    PyTorch file --+                                       +--> folder: a base, or an adaptation run with its base inside
    run folder   --+--> Weights: base, adapter, config ----+--> .safetensors: one tree
    .safetensors --+                                       +--> PyTorch file, for the original code and strict loading

What was recognised and what had to be assumed is told in `Weights.notes`. Nothing is overwritten, and nothing half-written stays.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import jax
import numpy as np

from posynda_jax.adaptation import adapt, bases, tensors_file
from posynda_jax.interop import torch_weights
from posynda_jax.interop.torch_weights import Told, Weights
from posynda_jax.runtime import checkpoint, runs

TORCH = (".bin", ".pt", ".pth")
PARTS = ("merge", "keep", "base", "adapter")
BIASES = ("refuse", "drop", "beside")
LAYOUTS = ("original", "bare")


def read(path, *, adapter=None, which: str = "adapted", told: Told = Told()) -> Weights:
  """The weights of a PyTorch file, a run folder of either kind, a base's `.safetensors` or a base that ships.

  `adapter` is an adaptation run's folder or an adapter's `.safetensors`; `which` names the tree of a run folder; `told` is for
  PyTorch files. Raises FileNotFoundError; ValueError for a file that is not what it should be.
  """
  folder = pathlib.Path(path).expanduser()
  if folder.suffix in TORCH:
    weights = torch_weights.read(folder, told)
  elif needless := [name for name, value in vars(told).items() if value is not None]:
    raise ValueError(f"{path} says itself what --{needless[0]} would: leave it out")
  elif (folder / "config.json").is_file() and "adapt" in (config := runs.read_config(folder)):
    if "base_folder" not in config:
      raise ValueError(f"{path} holds several adapters and not where their base is: give the base as IN and --adapter={path} "
                       "--weights=NAME")
    weights = _adapted(bases.load(config["base_folder"]), folder, which)
  else:
    weights = _bare(bases.load(path))
  if adapter is None:
    return weights
  if weights.adapter is not None:
    raise ValueError(f"{path} has an adapter of its own: --adapter={adapter} fits a base")
  base = bases.Base(None, weights.params, checkpoint.digest(weights.params), weights.config)
  adapted = _adapted(base, pathlib.Path(adapter).expanduser(), which)
  return dataclasses.replace(adapted, notes=(*weights.notes, f"adapter: {adapter}"))


def _bare(base: bases.Base) -> Weights:
  return Weights(base.params, base.config, notes=(f"base: {torch_weights.describe(base.config['model'])}",))


def _adapted(base: bases.Base, path: pathlib.Path, which: str) -> Weights:
  """The base with an adapter that belongs to it. Raises ValueError for one of another base."""
  if path.suffix == ".safetensors":
    adapter, settings = tensors_file.load_adapter(path, base.digest)
  else:
    config = runs.read_config(path)
    if config.get("base") != base.digest:
      raise ValueError(f"{path} adapts the base {config.get('base')}, the base here is {base.digest}: give the base it was "
                       "trained on")
    settings = runs.adapter_settings(path, which)
    like = jax.eval_shape(lambda: adapt.init_adapter(jax.random.key(0), base.params, adapt.from_settings(settings)))
    adapter = checkpoint.load_tree(path / which, like)
  return dataclasses.replace(_bare(base), adapter=adapter, settings=settings)


def write(
    path, weights: Weights, *, part: str | None = None, layout: str = "original", bias: str = "refuse", dtype: str | None = None
) -> list[str]:
  """Writes the weights to `path`, by its ending, and returns what to tell about it.

  `part` is what becomes of an adapter, one of PARTS; by default a folder keeps it, a PyTorch file has it merged and a
  `.safetensors` file is the adapter alone. `layout` and `bias` are as in `torch_weights.write`; `dtype` is the type in a
  `.safetensors` file. Raises ValueError where `path` exists, or what is asked for does not fit together.
  """
  path = pathlib.Path(path).expanduser()
  kind = path.suffix if path.suffix in (*TORCH, ".safetensors") else "folder"
  part = _check(path, kind, weights, part, dtype)
  if part == "merge":
    weights = _merge(weights, bias, ("drop", "beside") if kind in TORCH and layout == "original" else ("drop",))
  elif part == "base":
    weights = dataclasses.replace(weights, adapter=None, settings=None)
  digest = checkpoint.digest(weights.params)
  with _beside(path) as new:
    if kind in TORCH:
      what = torch_weights.write(new, weights, part == "keep", layout, bias)
    elif kind == "folder":
      what = _write_folder(new, path, weights, digest)
    elif part == "adapter":
      what = f"the adapter {tensors_file.save_adapter(new, weights.adapter, digest, weights.settings, dtype)} of this base"
    else:
      what = f"the base in {dtype or 'float32'}, digest then {tensors_file.save_base(new, weights.params, weights.config, dtype)}"
  return [f"{path}: {what}", f"digest of the base: {digest}"]


def _check(path: pathlib.Path, kind: str, weights: Weights, part: str | None, dtype: str | None) -> str:
  """What becomes of the adapter. Raises for a place that is taken or missing, and for what a file of that kind cannot hold."""
  if path.exists() or path.is_symlink():
    raise ValueError(f"{path} exists and is not overwritten: give another name or remove it")
  if not path.parent.is_dir():
    raise FileNotFoundError(f"folder {path.parent} does not exist: make it first")
  if dtype not in (None, "float32") and kind != ".safetensors":
    raise ValueError(f"--dtype={dtype} is for .safetensors files: a folder and a PyTorch file hold float32")
  if weights.adapter is None:
    if part in ("keep", "adapter"):
      raise ValueError(f"--lora={part} needs an adapter, and these weights have none")
    return "base"
  part = part or {"folder": "keep", ".safetensors": "adapter"}.get(kind, "merge")
  if part == "keep" and kind == ".safetensors":
    raise ValueError("--lora=keep does not fit in one .safetensors file: write --lora=base to one and --lora=adapter to another")
  if part == "adapter" and kind != ".safetensors":
    raise ValueError("--lora=adapter writes a .safetensors file: neither a run folder nor the original code has an adapter alone")
  return part


def _write_folder(path: pathlib.Path, final: pathlib.Path, weights: Weights, digest: str) -> str:
  """A base is `config.json` and `base/`; with its adapter it is the folder `base` inside an adaptation run's folder."""
  base = path if weights.adapter is None else path / "base"
  base.mkdir(parents=True)
  runs.write_json(base / "config.json", weights.config)
  checkpoint.save_tree(base / "base", weights.params)
  if weights.adapter is None:
    return "a base, for --base= and --run="
  runs.write_json(path / "config.json", {
      "base": digest, "base_folder": str(final.absolute() / "base"), "adapt": weights.settings,
      "source": weights.config.get("source"), "target": None, "target_split": None,
  })
  checkpoint.save_tree(path / "adapted", weights.adapter)
  return f"an adaptation run for --run=, and its base {final / 'base'} for --base="


def _merge(weights: Weights, bias: str, choices: tuple[str, ...]) -> Weights:
  """The base with its adapter folded in: exact, but for a bias by joint in MixSTE, whose last layer is shared by all joints.

  Such a bias stays as an adapter of nothing else where `bias`, one of the choices, says beside.
  """
  params = adapt.merge(weights.params, weights.adapter, weights.settings["scale"])
  offset = weights.adapter["bias"]
  if weights.config["model"].get("denoiser", "mixste") == "videopose":
    shrink = params["params"]["shrink"]
    params = {**params, "params": {**params["params"], "shrink": {**shrink, "bias": shrink["bias"] + offset.reshape(-1)}}}
  elif np.any(offset):
    torch_weights.check_bias(offset, bias, choices)
    if bias == "beside":
      return Weights(params, weights.config, {"lora": {}, "bias": offset}, weights.settings)
  return Weights(params, weights.config)


@contextlib.contextmanager
def _beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A place of the same name in a new folder beside it, moved to `path` once all went well; gone otherwise."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
  try:
    yield folder / path.name
    os.rename(folder / path.name, path)
  finally:
    shutil.rmtree(folder)
