"""Bases and adapters between PyTorch checkpoints, run folders and `.safetensors` files.

    PyTorch file --+                                    +--> folder: a base, or an adaptation run with its base inside
    run folder   --+--> Converted: base, adapter, config -+--> .safetensors: one tree
    .safetensors --+                                    +--> PyTorch file, for the original code and strict loading

`Converted.notes` says what was recognised and what was assumed. No file is overwritten, and a failure leaves no file.
"""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np
from jaxtyping import PyTree

from posynda_jax.adaptation import adapters, bases, tensors_file
from posynda_jax.interop import torch_weights
from posynda_jax.interop.torch_weights import Converted, Hints
from posynda_jax.runtime import checkpoint, files, runs

TORCH = (".bin", ".pt", ".pth")
PARTS = ("merge", "keep", "base", "adapter")
BIASES = ("refuse", "drop", "beside")


def read(path, *, adapter=None, which: str = "adapted", hints: Hints = Hints()) -> Converted:
  """The weights of a PyTorch file, a run folder of either kind, a base's `.safetensors` file, or a base that ships.

  `adapter` is the folder of an adaptation run, or an adapter's `.safetensors` file. `which` names the adapter in a run
  folder. `hints` are for PyTorch files. Raises FileNotFoundError, and ValueError for a file of another kind.
  """
  folder = pathlib.Path(path).expanduser()
  if folder.suffix in TORCH:
    weights = torch_weights.read_torch(folder, hints)
  elif needless := [name for name, value in vars(hints).items() if value is not None]:
    raise ValueError(f"{path} is not a PyTorch file and needs no --{needless[0]}: leave it out")
  elif (folder / "config.json").is_file() and "recipe" in (config := runs.read_config(folder)):
    if "base_folder" not in config:
      raise ValueError(f"{path} does not name its base: give the base as INPUT, and --adapter={path} --weights=NAME")
    weights = _add_adapter(bases.load(config["base_folder"]), folder, which)
  else:
    weights = _bare(bases.load(path))
  if adapter is None:
    return weights
  if weights.adapter is not None:
    raise ValueError(f"{path} has an adapter of its own: --adapter={adapter} fits a base")
  base = bases.Base(None, weights.params, checkpoint.digest(weights.params), weights.config)
  adapted = _add_adapter(base, pathlib.Path(adapter).expanduser(), which)
  return dataclasses.replace(adapted, notes=(*weights.notes, f"adapter: {adapter}"))


def with_temperature(params: PyTree, factors: str) -> PyTree:
  """The variables of a base with its doubt head's deviations across the image and along depth times "ACROSS,DEPTH".

  Raises ValueError for another text, and for a base without this head.
  """
  try:
    across, depth = (float(text) for text in factors.split(","))
  except ValueError:
    across = depth = 0.0
  if not (across > 0 and depth > 0):
    raise ValueError(f"temperature {factors!r} is not two positive factors: write ACROSS,DEPTH")
  if "doubt" not in params["params"]:
    raise ValueError("this base has no doubt head, so it has no temperature: leave it out")
  head = params["params"]["doubt"]
  changed = {**head, "bias": head["bias"] + np.log(np.float32([across, depth]))}
  return {**params, "params": {**params["params"], "doubt": changed}}


def write(path, weights: Converted, *, part: str | None = None, bias: str = "refuse", dtype=None) -> list[str]:
  """Writes the weights to `path`, in the form that its ending names; returns lines that say what was written.

  `part`, one of PARTS, says what to do with an adapter. By default a folder keeps it, a PyTorch file has it merged,
  and a `.safetensors` file holds it alone. `bias` is as in `torch_weights.write_torch`; `dtype` is the type in a
  `.safetensors` file. Raises ValueError if `path` exists or the options do not fit together.
  """
  path = pathlib.Path(path).expanduser()
  kind = path.suffix if path.suffix in (*TORCH, ".safetensors") else "folder"
  part = _check(path, kind, weights, part, dtype)
  if part == "merge":
    weights = _merge(weights, bias, can_keep=kind in TORCH)
  elif part == "base":
    weights = dataclasses.replace(weights, adapter=None, settings=None)
  digest = checkpoint.digest(weights.params)
  with _replacing(path) as new:
    if kind in TORCH:
      what = torch_weights.write_torch(new, weights, part == "keep", bias)
    elif kind == "folder":
      what = _write_folder(new, path, weights, digest)
    elif part == "adapter":
      own = tensors_file.save_adapter(new, weights.adapter, digest, weights.settings, dtype)
      what = f"the adapter {own} of this base"
    else:
      own = tensors_file.save_base(new, weights.params, weights.config, dtype)
      what = f"the base in {dtype or 'float32'}, digest then {own}"
  return [f"{path}: {what}", f"digest of the base: {digest}"]


def _bare(base: bases.Base) -> Converted:
  return Converted(base.params, base.config, notes=(f"base: {torch_weights.describe_model(base.config['model'])}",))


def _add_adapter(base: bases.Base, path: pathlib.Path, which: str) -> Converted:
  """The base with an adapter that was trained on it. Raises ValueError for an adapter of another base."""
  if path.suffix == ".safetensors":
    adapter, settings = tensors_file.load_adapter(path, base.digest)
  else:
    config = runs.read_config(path)
    if config.get("base") != base.digest:
      found = config.get("base")
      raise ValueError(f"{path} is an adapter of base {found}, not of {base.digest}: give the base it was trained on")
    weights = bases.load_adapter(path, which, base)
    adapter, settings = weights.adapter, weights.settings
  return dataclasses.replace(_bare(base), adapter=adapter, settings=settings)


def _check(path: pathlib.Path, kind: str, weights: Converted, part: str | None, dtype: str | None) -> str:
  """The part to write. Raises if the path is taken, its folder missing, or this kind of file cannot hold the part."""
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
  if (part, kind) == ("keep", ".safetensors"):
    raise ValueError("--lora=keep does not fit in one .safetensors file: write --lora=base and --lora=adapter to two")
  if part == "adapter" and kind != ".safetensors":
    raise ValueError("--lora=adapter writes a .safetensors file: other forms cannot hold an adapter alone")
  return part or {"folder": "keep", ".safetensors": "adapter"}.get(kind, "merge")


def _write_folder(path: pathlib.Path, final: pathlib.Path, weights: Converted, digest: str) -> str:
  """Writes a base, `config.json` and `base/`; or an adaptation run, which holds such a base in its folder `base`."""
  base = path if weights.adapter is None else path / "base"
  base.mkdir(parents=True)
  files.write_json(base / "config.json", weights.config)
  checkpoint.save_tree(base / "base", weights.params)
  if weights.adapter is None:
    return "a base, for --base= and --run="
  files.write_json(path / "config.json", {
      "base": digest, "base_folder": str(final.absolute() / "base"), "recipe": {"adapter": weights.settings["adapter"]},
      "source": weights.config.get("source"), "target": None, "target_split": None,
  })
  measured = {name: weights.settings[name] for name in ("body", "view")}
  files.write_json(path / "measured.json", {"adapted": measured, "source_only": measured | {"view": []}})
  checkpoint.save_tree(path / "adapted", weights.adapter)
  return f"an adaptation run for --run=, and its base {final / 'base'} for --base="


def _merge(weights: Converted, bias: str, can_keep: bool) -> Converted:
  """The base with its adapter merged.

  VideoPose takes the bias by joint (Eq. 11) into its last layer. MixSTE cannot, because all joints share its last
  layer. There, `bias` "drop" removes it, and "beside" keeps it as an adapter without factors. Raises ValueError as
  `torch_weights.check_bias`.
  """
  params = adapters.merge(weights.params, weights.adapter, adapters.from_settings(weights.settings).scale)
  offset = weights.adapter["bias"]
  if weights.config["model"].get("denoiser") == "videopose":
    shrink = params["params"]["shrink"]
    shrink = {**shrink, "bias": shrink["bias"] + offset.reshape(-1)}
    params = {**params, "params": {**params["params"], "shrink": shrink}}
  elif np.any(offset):
    torch_weights.check_bias(offset, bias, can_keep)
    if bias == "beside":
      return Converted(params, weights.config, {"lora": {}, "bias": offset}, weights.settings)
  return Converted(params, weights.config)


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A place in a new folder beside `path`, for a file or folder that moves to `path` unless an error occurs."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
  try:
    yield folder / path.name
    os.rename(folder / path.name, path)
  finally:
    shutil.rmtree(folder)
