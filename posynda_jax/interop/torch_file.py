"""PyTorch checkpoint files (`.bin`, `.pt`, `.pth`) as plain data with NumPy arrays, without PyTorch.

`load_torch` reads both containers of `torch.save`:

    zip (since 1.6): <any>/data.pkl; <any>/data/<key>, the raw numbers of one storage; <any>/byteorder
    legacy: five pickles (magic number, version, machine, data, storage keys); then each storage, its length and numbers

A tensor is a view of a storage by offset, size and strides. Views of one storage share memory. The pickle is read by
`safe_pickle`, which here also accepts tensors, parameters and storages. Random generators, which checkpoints of
VideoPose3D and D3DP hold, are ignored. `save_torch` writes the zip container.
"""

import io
import math
import pathlib
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from posynda_jax.data import safe_pickle

MAX_PICKLE = 2**28  # bytes; that of a model with 10,000 tensors has 2 MB
DTYPES = {  # storage class -> type of its numbers
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16, "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16, "CharStorage": np.int8,
    "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the legacy container
_STORAGES = {np.dtype(dtype): name.encode() for name, dtype in DTYPES.items()}
_ALIGNMENT = 64  # bytes, of the numbers of each storage in the zip
_AGAIN = "fetch it again, or save it again with torch.save"
_BYTE_ORDER = "has the byte order of another kind of machine: save it again on a little-endian one"


def load_torch(path) -> Any:
  """The data that `torch.save` wrote: dicts, lists and plain values, with arrays for tensors and parameters.

  Raises FileNotFoundError. Raises ValueError that names the file if it is damaged or of another kind, and
  `safe_pickle.Refused` before any of its code runs if it holds more than plain data.
  """
  path = safe_pickle.bounded(path)
  with path.open("rb") as file:
    try:
      is_zip = file.read(4) == b"PK\x03\x04"
      file.seek(0)
      return _load_zip(file, path) if is_zip else _load_legacy(file, path)
    except safe_pickle.ZIP_ERRORS as error:
      raise ValueError(f"{path} is not a whole PyTorch file ({error}): {_AGAIN}") from error


def save_torch(path, value: Any) -> None:
  """Writes dicts, lists and tuples of plain values and arrays to the new file `path`, for `torch.load` to read.

  The same data gives the same bytes. Raises ValueError for other data, and FileExistsError if the file exists.
  """
  path, arrays = pathlib.Path(path), []
  pickled = pickle.PROTO + b"\x02" + _encode(value, arrays) + pickle.STOP
  with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
    root = path.name.partition(".")[0] or "archive"
    entries = {"data.pkl": pickled, "byteorder": sys.byteorder.encode()}
    entries |= {f"data/{key}": array.tobytes() for key, array in enumerate(arrays)}
    for name, raw in {**entries, "version": b"3\n"}.items():
      info = zipfile.ZipInfo(f"{root}/{name}")
      start = file.tell() + 30 + len(info.filename.encode()) + 4  # without padding
      padding = -start % _ALIGNMENT
      info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
      archive.writestr(info, raw)


class _Storage(NamedTuple):
  """Stands for a storage in the pickle, which could replace the memory of a bare array."""

  array: np.ndarray


def _make_resolver(arrays: dict[str, np.ndarray], make: Callable[[str, np.dtype, int], np.ndarray]) -> Callable:
  """A function from a persistent reference to its storage; `make(key, dtype, length)` adds a new key to `arrays`."""

  def resolve(pid) -> _Storage:
    # ("storage", type, key, device, length); old files add (key of the part, offset, length) or None
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or pid[1] not in DTYPES:
      raise safe_pickle.Refused("refers to something that is not a storage of numbers")
    dtype, key, length = np.dtype(DTYPES[pid[1]]), pid[2], pid[4]
    if not isinstance(key, str) or type(length) is not int or length < 0:
      raise safe_pickle.Refused(f"names a storage {key!r} of length {length!r}")
    if key not in arrays:
      arrays[key] = make(key, dtype, length)
    if arrays[key].dtype != dtype or len(arrays[key]) != length:
      raise safe_pickle.Refused(f"describes storage {key} in two ways")
    offset, length = pid[5][1:] if len(pid) > 5 and pid[5] else (0, length)
    return _Storage(arrays[key][offset : offset + length])

  return resolve


def _load_zip(file, path: pathlib.Path) -> Any:
  with zipfile.ZipFile(file) as archive:
    names = archive.namelist()
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(roots) != 1:
      raise ValueError(f"{path} is a zip without one data.pkl in a folder: it is no file of torch.save")
    root, names = roots[0], set(names)
    if f"{root}constants.pkl" in names:
      raise ValueError(f"{path} is a TorchScript program, not a checkpoint: save its state_dict() with torch.save")
    if (total := sum(info.file_size for info in archive.infolist())) > safe_pickle.MAX_BYTES:
      raise ValueError(f"{path} unpacks to {total:,} bytes, more than {safe_pickle.MAX_BYTES:,}: it is refused")
    if (size := archive.getinfo(f"{root}data.pkl").file_size) > MAX_PICKLE:
      raise ValueError(f"{path} has a data.pkl of {size:,} bytes, more than {MAX_PICKLE:,}: it is refused")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder").strip() != b"little":
      raise ValueError(f"{path} {_BYTE_ORDER}")

    def read(key: str, dtype: np.dtype, length: int) -> np.ndarray:
      if f"{root}data/{key}" not in names:
        raise safe_pickle.Refused(f"lacks the storage {key} that its tensors name")
      size = length * dtype.itemsize
      with archive.open(f"{root}data/{key}") as storage:
        raw = storage.read(size + 1)
      if len(raw) != size:
        held = f"{len(raw):,}" if len(raw) < size else f"more than {size:,}"
        raise safe_pickle.Refused(f"holds {held} bytes in storage {key}, its tensors say {size:,}")
      return np.frombuffer(bytearray(raw), dtype)

    data = io.BytesIO(archive.read(f"{root}data.pkl"))
    return safe_pickle.load(data, str(path), "utf-8", _NAMES, _make_resolver({}, read))


def _load_legacy(file, path: pathlib.Path) -> Any:
  size, storages = path.stat().st_size, {}

  def load_plain(what: str) -> Any:
    return safe_pickle.load(file, f"{path} ({what})", "utf-8")

  try:
    head = load_plain("magic number"), load_plain("version")
  except ValueError:
    head = None
  if head != (MAGIC, VERSION):
    raise ValueError(f"{path} is no PyTorch file: it has neither the zip container nor the older one; {_AGAIN}")
  machine = load_plain("machine")
  if not isinstance(machine, dict) or machine.get("little_endian") is not True:
    raise ValueError(f"{path} {_BYTE_ORDER}")

  def reserve(key: str, dtype: np.dtype, length: int) -> np.ndarray:
    if sum(array.nbytes for array in storages.values()) + length * dtype.itemsize > size:
      raise safe_pickle.Refused(f"announces more numbers than its {size:,} bytes hold")
    return np.zeros(length, dtype)  # filled below, because the numbers come after the pickle

  value = safe_pickle.load(file, str(path), "utf-8", _NAMES, _make_resolver(storages, reserve))
  keys = load_plain("storage keys")
  if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
    raise ValueError(f"{path} does not hold the storages that its tensors name: {_AGAIN}")
  for key in keys:
    array = storages[key]
    (length,) = struct.unpack("<q", file.read(8))
    raw = file.read(array.nbytes)
    if length != len(array) or len(raw) != array.nbytes:
      raise ValueError(f"{path} ends early, or its storage {key} does not have {len(array):,} numbers: {_AGAIN}")
    array[:] = np.frombuffer(raw, array.dtype)
  return value


def _rebuild_tensor(storage, offset, size, stride, *unused) -> np.ndarray:
  """The tensor, a view of its storage. Raises Refused for a view that reaches outside."""
  counts = (offset, *size, *stride)
  if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in counts) or len(size) != len(stride):
    raise safe_pickle.Refused("builds a tensor in an unusual way")
  array, size = storage.array, tuple(size)
  if not math.prod(size):
    return np.zeros(size, array.dtype)
  if offset + sum((n - 1) * step for n, step in zip(size, stride)) >= len(array):
    raise safe_pickle.Refused(f"holds a tensor of shape {size} that reaches outside its {len(array):,} numbers")
  strides = tuple(step * array.itemsize for step in stride)
  return np.ndarray(size, array.dtype, array, offset * array.itemsize, strides)


_NAMES = {  # names that the pickle may use, beside those of plain data
    **{("torch", name): name for name in DTYPES},  # a text, which the pickle can neither call nor change
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *unused: data,
    ("numpy.random._pickle", "__randomstate_ctor"): safe_pickle.Ignored,
    ("numpy.random._pickle", "__bit_generator_ctor"): safe_pickle.Ignored,
    ("numpy.random", "__RandomState_ctor"): safe_pickle.Ignored,  # NumPy before 1.17
    ("numpy.random._mt19937", "MT19937"): safe_pickle.Ignored,
}


def _encode(value: Any, arrays: list[np.ndarray]) -> bytes:
  """`value` as opcodes of pickle protocol 2. Its arrays are appended to `arrays`; an array's key is its place there.

  Python's own pickler refuses the names of PyTorch's functions where PyTorch is not installed.
  """

  def encode_all(values) -> bytes:
    return b"".join(_encode(item, arrays) for item in values)

  if type(value) in (type(None), bool, int, float, str):
    return pickle.dumps(value, protocol=2)[2:-1]  # without PROTO and STOP
  if isinstance(value, dict):
    items = encode_all(part for item in value.items() for part in item)
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS
  if isinstance(value, list):
    return pickle.EMPTY_LIST + pickle.MARK + encode_all(value) + pickle.APPENDS
  if isinstance(value, tuple):
    return pickle.MARK + encode_all(value) + pickle.TUPLE
  if not isinstance(value, np.ndarray):
    raise ValueError(f"{value!r} is not plain data: a checkpoint holds dicts, lists, numbers, text and arrays")
  if value.dtype not in _STORAGES:
    types = ", ".join(map(str, _STORAGES))
    raise ValueError(f"an array of type {value.dtype} cannot be a tensor: convert it to one of {types}")
  array = np.asarray(value, order="C")
  kind = pickle.GLOBAL + b"torch\n" + _STORAGES[array.dtype] + b"\n"
  key = str(len(arrays))
  arrays.append(array)
  storage = pickle.MARK + encode_all(["storage"]) + kind + encode_all([key, "cpu", array.size]) + pickle.TUPLE
  view = encode_all([0, array.shape, tuple(step // array.itemsize for step in array.strides), False])
  hooks = pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE + pickle.REDUCE
  rebuild = pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"
  return rebuild + pickle.MARK + storage + pickle.BINPERSID + view + hooks + pickle.TUPLE + pickle.REDUCE
