"""PyTorch checkpoint files (`.bin`, `.pt`, `.pth`) as plain data with NumPy arrays, without PyTorch and without running them.

Both containers that `torch.save` has written are read:

    zip (since 1.6): <any>/data.pkl, <any>/data/<key> with a storage's raw numbers each, <any>/byteorder
    legacy: five pickles in a row (magic number, version, machine, the data, keys), then each storage: its length, its numbers

A tensor is a view into a storage, by offset, size and strides; views of one storage stay views of one array. The pickle passes
through `safe_pickle`: beside plain data it may name tensors, parameters and storages. Random generators, which checkpoints of
VideoPose3D and D3DP carry, are read past.
"""

import io
import math
import pathlib
import struct
import zipfile
import zlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from posynda_jax.data import safe_pickle

DTYPES = {  # storage class -> type of its numbers
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16, "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the legacy container
_AGAIN = "fetch it again, or save it again with torch.save"


def load(path) -> Any:
  """What `torch.save` put into the file: dicts, lists and plain values, with arrays for tensors and parameters.

  Raises FileNotFoundError; ValueError, naming the file, for one that is damaged, of another kind or more than plain data
  (`safe_pickle.Refused`, before anything of it runs).
  """
  path = safe_pickle.bounded(path)
  with path.open("rb") as file:
    try:
      is_zip = file.read(4) == b"PK\x03\x04"
      file.seek(0)
      return _load_zip(file, path) if is_zip else _load_legacy(file, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, struct.error) as error:
      raise ValueError(f"{path} is not a whole PyTorch file ({error}): {_AGAIN}") from error


class _StorageType:
  """What a storage class is to the pickle: nothing that could be called or changed."""

  def __init__(self, dtype):
    self.dtype = np.dtype(dtype)


class _Storage:
  """What a storage is to the pickle. Bare, its memory could be replaced under the tensors that view it."""

  def __init__(self, array: np.ndarray):
    self.array = array


def _load_zip(file, path: pathlib.Path) -> Any:
  with zipfile.ZipFile(file) as archive:
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1 or names.count(f"{roots[0]}data.pkl") != 1:
      raise ValueError(f"{path} is a zip without one data.pkl in a folder: it is no file of torch.save")
    if f"{roots[0]}constants.pkl" in names:
      raise ValueError(f"{path} is a TorchScript program, not a checkpoint: save its state_dict() with torch.save")
    if (total := sum(info.file_size for info in archive.infolist())) > safe_pickle.MAX_BYTES:
      raise ValueError(f"{path} unpacks to {total:,} bytes, more than {safe_pickle.MAX_BYTES:,}: it is refused")
    if f"{roots[0]}byteorder" in names and archive.read(f"{roots[0]}byteorder").strip() != b"little":
      raise ValueError(f"{path} has the byte order of another kind of machine: save it again on a little-endian one")
    storages: dict[str, np.ndarray] = {}
    names = set(names)

    def storage(pid):
      dtype, key, length = _storage_id(pid)
      if key not in storages:
        if f"{roots[0]}data/{key}" not in names:
          raise safe_pickle.Refused(f"lacks the storage {key} that its tensors name")
        raw = archive.read(f"{roots[0]}data/{key}")
        if len(raw) != length * dtype.itemsize:
          raise safe_pickle.Refused(f"holds {len(raw):,} bytes in storage {key}, its tensors say {length * dtype.itemsize:,}")
        storages[key] = np.frombuffer(bytearray(raw), dtype)
      return _same(storages[key], dtype, length, key)

    return safe_pickle.load(io.BytesIO(archive.read(f"{roots[0]}data.pkl")), str(path), "utf-8", _NAMES, storage)


def _load_legacy(file, path: pathlib.Path) -> Any:
  size = path.stat().st_size
  plain = lambda what: safe_pickle.load(file, f"{path} ({what})", "utf-8")
  try:
    magic, version = plain("magic number"), plain("version")
  except ValueError:
    magic = version = None
  if magic != MAGIC or version != VERSION:
    raise ValueError(f"{path} is no PyTorch file: it has neither the zip container nor the older one; {_AGAIN}")
  machine = plain("machine")
  if not isinstance(machine, dict) or machine.get("little_endian") is not True:
    raise ValueError(f"{path} has the byte order of another kind of machine: save it again on a little-endian one")
  storages: dict[str, np.ndarray] = {}  # filled at the end, when the file says how; tensors already view them

  def storage(pid):
    dtype, key, length = _storage_id(pid[:5])
    if key not in storages:
      if sum(array.nbytes for array in storages.values()) + length * dtype.itemsize > size:
        raise safe_pickle.Refused(f"announces more numbers than its {size:,} bytes hold")
      storages[key] = np.zeros(length, dtype)
    whole = _same(storages[key], dtype, length, key)
    if len(pid) < 6 or pid[5] is None:
      return whole
    _, offset, length = pid[5]  # a storage that is part of another
    return _Storage(whole.array[offset : offset + length])

  value = safe_pickle.load(file, str(path), "utf-8", _NAMES, storage)
  keys = plain("storage keys")
  if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
    raise ValueError(f"{path} does not hold the storages that its tensors name: {_AGAIN}")
  for key in keys:
    array = storages[key]
    (length,) = struct.unpack("<q", file.read(8))
    raw = file.read(array.nbytes)
    if length != len(array) or len(raw) != array.nbytes:
      raise ValueError(f"{path} ends early, or storage {key} has {length:,} numbers and its tensors say {len(array):,}: {_AGAIN}")
    array[:] = np.frombuffer(raw, array.dtype)
  return value


def _storage_id(pid) -> tuple[np.dtype, str, int]:
  """(type of the numbers, key, how many) of a persistent reference to a storage."""
  if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not isinstance(pid[1], _StorageType):
    raise safe_pickle.Refused("refers to something that is not a storage of numbers")
  _, kind, key, _, length = pid
  if not isinstance(key, str) or type(length) is not int or length < 0:
    raise safe_pickle.Refused(f"names a storage {key!r} of length {length!r}")
  return kind.dtype, key, length


def _same(array: np.ndarray, dtype: np.dtype, length: int, key: str) -> _Storage:
  if array.dtype != dtype or len(array) != length:
    raise safe_pickle.Refused(f"describes storage {key} in two ways")
  return _Storage(array)


def _rebuild_tensor(storage, offset, size, stride, *unused) -> np.ndarray:
  """The view of a storage that a tensor is; one that reaches outside is refused."""
  counts = (offset, *size, *stride)
  if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in counts) or len(size) != len(stride):
    raise safe_pickle.Refused("builds a tensor in an unusual way")
  array, size = storage.array, tuple(size)
  if not math.prod(size):
    return np.zeros(size, array.dtype)
  if offset + sum((n - 1) * step for n, step in zip(size, stride)) >= len(array):
    raise safe_pickle.Refused(f"holds a tensor of shape {size} that reaches outside its storage of {len(array):,} numbers")
  return np.ndarray(size, array.dtype, array, offset * array.itemsize, tuple(step * array.itemsize for step in stride))


def _rebuild_parameter(data, *unused) -> np.ndarray:
  return data


def _names() -> dict[tuple[str, str], Any]:
  names: dict[tuple[str, str], Any] = {("torch", name): _StorageType(dtype) for name, dtype in DTYPES.items()}
  for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
    names["torch._utils", name] = _rebuild_tensor
  names["torch._utils", "_rebuild_parameter"] = _rebuild_parameter
  names["torch", "Size"] = tuple
  for name in ("__randomstate_ctor", "__bit_generator_ctor"):
    names["numpy.random._pickle", name] = safe_pickle.Ignored
  names["numpy.random", "__RandomState_ctor"] = safe_pickle.Ignored  # numpy before 1.17
  names["numpy.random._mt19937", "MT19937"] = safe_pickle.Ignored
  return names


_NAMES = _names()
