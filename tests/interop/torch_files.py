"""The golden networks in PyTorch files, as the original code saves them."""

import collections
import dataclasses
import functools
import io
import pathlib
import pickle
import struct
import tempfile
import zipfile

import jax
import numpy as np

from posynda_jax.adaptation import adapters
from posynda_jax.interop import convert, torch_file, torch_names
from posynda_jax.runtime import checkpoint
from tests import golden

D3DP = "module.pose_estimator."
PREFIXES = {"mixste_small": D3DP, "mixste_orig_small": "module.", "videopose_small": ""}


def legacy(value, little=True, length_of=len, data: bytes | None = None) -> bytes:
  """The older container of `value`, as `torch.save` wrote it before 1.6; `data` replaces its pickle."""
  arrays: list[np.ndarray] = []
  machine = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"int": 4}}
  heads = (pickle.dumps(plain, 2) for plain in (torch_file.MAGIC, torch_file.VERSION, machine))
  encoded = torch_file._encode(value, arrays).replace(b"tQ", b"NtQ")  # a sixth entry in each reference to a storage
  keys = pickle.dumps([str(key) for key in range(len(arrays))], 2)
  storages = (struct.pack("<q", length_of(array.ravel())) + array.tobytes() for array in arrays)
  return b"".join([*heads, data or b"\x80\x02" + encoded + b".", keys, *storages])


def zipped(pickled: bytes, compression=zipfile.ZIP_STORED, byteorder=b"little", **entries: bytes) -> bytes:
  """The zip container with `pickled` as its data and storages by key, `s0` for storage 0."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", compression) as archive:
    archive.writestr("x/data.pkl", pickled)
    archive.writestr("x/byteorder", byteorder)
    for key, raw in entries.items():
      archive.writestr(f"x/data/{key.removeprefix('s')}", raw)
  return file.getvalue()


def checkpoint_of(state, prefix: str, num_steps: int = 1000) -> dict:
  """The dictionary in which the original code saves a state dict; D3DP's with schedule buffers of T steps."""
  buffers = torch_names.schedule_buffers(num_steps) if prefix == D3DP else {}
  model_pos = {f"module.{name}": value for name, value in buffers.items()}
  model_pos |= {prefix + name: value for name, value in state.items()}
  return {
      "epoch": 9, "lr": 1e-4, "optimizer": {"state": {0: {"exp_avg": np.zeros(3, np.float32)}}},
      "random_state": np.zeros(624, np.uint8), "model_pos": collections.OrderedDict(model_pos),
  }


def write(path, value, container: str = "zip"):
  path.write_bytes(legacy(value)) if container == "legacy" else torch_file.save_torch(path, value)
  return path


def hints(arrays: dict, **others) -> convert.Hints:
  """What a user says about a golden network."""
  known = {"heads": arrays["config"].get("num_heads"), "causal": arrays["config"].get("causal")}
  return convert.Hints(**{**known, **others})


def golden_lora() -> tuple[dict, dict, dict]:
  """(golden LoRA arrays, arrays of their base, its state dict with the adapters injected as in PoSynDA's code)."""
  arrays = golden.load("lora_small")
  base = golden.load(arrays["config"]["base"].removesuffix(".npz"))
  stored = {name.removeprefix("lora/"): value for name, value in arrays.items() if name.startswith("lora/")}
  return arrays, base, torch_names.inject(golden.params(base), stored)


@functools.cache
def golden_run() -> convert.Converted:
  """The golden adapter on its base, read from a PyTorch file, with a bias that is not zero."""
  _, base, state = golden_lora()
  with tempfile.TemporaryDirectory() as folder:
    path = write(pathlib.Path(folder) / "posynda.bin", checkpoint_of(state, D3DP))
    weights = convert.read(path, hints=hints(base))
  bias = 0.01 * jax.random.normal(jax.random.key(0), weights.adapter["bias"].shape)
  return dataclasses.replace(weights, adapter={**weights.adapter, "bias": bias})


def predict(arrays: dict, model, params, adapter=None) -> jax.Array:
  """The poses of a golden file's inputs: [b h f j 3], or [b f j 3] for a plain lifter; VideoPose without padding."""
  return _predict(model, params, adapter, {name: arrays[name] for name in ("x_2d", "x_3d", "t") if name in arrays})


@functools.partial(jax.jit, static_argnums=0)
def _predict(model, params, adapter, given: dict) -> jax.Array:
  if "x_3d" in given:
    denoise = adapters.make_denoiser(model, params, adapter, 1.0)
    return jax.vmap(lambda noisy: denoise(given["x_2d"], noisy, given["t"]), 1, 1)(given["x_3d"])
  return model.apply(params, given["x_2d"], **({"pad": False} if hasattr(model, "filter_widths") else {}))


def assert_same_bits(a, b) -> None:
  """Asserts that two trees have the same names, shapes, types and bits."""
  assert checkpoint.digest(a) == checkpoint.digest(b)
