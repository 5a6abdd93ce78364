"""Plain data from untrusted pickles: numbers, text, containers and NumPy arrays. No code of the file runs.

A pickle is a program that may call any importable function and set any state. This reader calls only functions that
build plain data, and refuses every other name before it is used. It also compares the bytes of an array with its type
and shape, which NumPy does not do: NumPy would follow raw bytes as pointers if the pickle declares them objects. Object
arrays in npz files, the pickles of 3DPW (Python 2, `encoding="latin1"`) and PyTorch checkpoints are read here.
"""

import collections
import functools
import io
import math
import pathlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

MAX_BYTES = 8 * 2**30  # the 2D keypoints of Human3.6M, the largest file known, have 1 GiB


class Refused(ValueError):
  """A pickle holds more than plain data, or an array whose bytes do not fit its type."""


class _Ndarray:
  """Stands in for the class numpy.ndarray, which pickles of arrays name but never call."""


class Ignored:
  """Stands in for a class whose objects are not needed; its state is dropped. For `extra` of `load`."""

  def __new__(cls, *args):
    return super().__new__(cls)


def _reconstruct(kind, shape, code) -> np.ndarray:
  if kind is not _Ndarray or tuple(shape) != (0,) or code not in (b"b", "b"):
    raise Refused("builds an array in an unusual way")
  return np.empty(0, np.int8)


def _dtype(spec, align=False, copy=False) -> np.dtype:
  dtype = np.dtype(spec, copy=True)  # a copy, because `_set_dtype` changes it later
  if dtype.names or dtype.subdtype or dtype.metadata:
    raise Refused(f"holds an array of the structured type {spec!r}")
  return dtype


def _scalar(dtype: np.dtype, data):
  if dtype.hasobject:
    raise Refused("holds a scalar of type object")
  data = data.encode("latin1") if isinstance(data, str) else data
  if not isinstance(data, bytes) or len(data) != dtype.itemsize:
    raise Refused(f"holds a scalar whose bytes are not those of type {dtype}")
  return np.ndarray((), dtype, data)[()]


def _frombuffer(data, dtype: np.dtype, shape, order, axes=None) -> np.ndarray:
  """An array of protocol 5. `np.frombuffer` raises ValueError for objects and for a wrong number of bytes."""
  array = np.frombuffer(data, dtype)
  return array.reshape(shape, order=order) if axes is None else array.reshape(shape).transpose(axes)


def _encode(text: str, encoding: str = "utf-8") -> bytes:
  """The bytes of protocol 2. `codecs.encode` itself has codecs that do more."""
  if encoding not in ("latin1", "latin-1", "utf-8", "utf8"):
    raise Refused(f"asks for the codec {encoding!r}")
  return text.encode(encoding)


def _make_bytes(kind: type, *args):
  if args and not isinstance(args[0], (bytes, bytearray, str, list, tuple)):
    raise Refused(f"fills {kind.__name__} by count")  # a large count would fill the memory
  return kind(*args)


_BUILTINS = {it.__name__: it for it in (set, frozenset, list, dict, tuple, complex, int, float, bool, str)}
_BUILTINS |= {it.__name__: functools.partial(_make_bytes, it) for it in (bytes, bytearray)}
_ALLOWED = {  # module -> {name: what stands for it}
    "numpy": {"ndarray": _Ndarray, "dtype": _dtype}, "_codecs": {"encode": _encode},
    "builtins": _BUILTINS, "__builtin__": _BUILTINS,
    "collections": {"OrderedDict": collections.OrderedDict, "defaultdict": collections.defaultdict},
    "numpy.core.multiarray": {"_reconstruct": _reconstruct, "scalar": _scalar},
    "numpy.core.numeric": {"_frombuffer": _frombuffer},
}


class _Unpickler(pickle._Unpickler):
  """A subclass of pickle's private Unpickler in Python, because that in C does not let a subclass replace BUILD."""

  dispatch = dict(pickle._Unpickler.dispatch)

  def __init__(self, file, encoding: str, extra: Mapping, persistent: Callable | None):
    super().__init__(file, encoding=encoding)
    self._extra, self._persistent = extra, persistent

  def find_class(self, module: str, name: str):
    if (module, name) in self._extra:
      return self._extra[module, name]
    allowed = _ALLOWED.get(module.replace("numpy._core", "numpy.core"), {})
    if name not in allowed:
      raise Refused(f"names {module}.{name}, which is not plain data")
    return allowed[name]

  def persistent_load(self, pid):
    if self._persistent is None:
      raise Refused("holds a persistent reference, which plain data does not")
    return self._persistent(pid)

  def load_build(self):
    state = self.stack.pop()
    _set_state(self.stack[-1], state)

  dispatch[pickle.BUILD[0]] = load_build


def _set_state(thing, state) -> None:
  """Sets the state of an array or dtype; drops that of `Ignored` and of a dict (PyTorch's `_metadata`)."""
  if type(thing) is np.ndarray:
    _set_array(thing, state)
  elif isinstance(thing, np.dtype):
    # Byte order is the only state that may change.
    if tuple(state) != thing.newbyteorder(state[1]).__reduce__()[2]:
      raise Refused(f"changes the type {thing}")
    thing.__setstate__(state)
  elif not isinstance(thing, Ignored) and not (isinstance(thing, dict) and isinstance(state, dict)):
    raise Refused(f"sets the state of a {type(thing).__name__}")


def _set_array(array: np.ndarray, state) -> None:
  _, shape, dtype, _, data = state
  kinds, size = (list, 1) if dtype.hasobject else ((bytes, str), dtype.itemsize)
  if not isinstance(data, kinds) or len(data) != math.prod(shape) * size or min(shape, default=0) < 0:
    raise Refused(f"holds an array whose {len(data)} items or bytes are not those of shape {shape} and type {dtype}")
  array.__setstate__(state)


def load(file, label: str, encoding: str = "ASCII", extra: Mapping = {}, persistent: Callable | None = None) -> Any:
  """The plain data in the open binary `file`, from its position on.

  `extra` allows further names, {(module, name): object}. `persistent` resolves persistent references (PyTorch's
  storages). Raises Refused, which names `label` and the refused name, and ValueError for a damaged pickle.
  """
  try:
    return _Unpickler(file, encoding, extra, persistent).load()
  except Refused as error:
    raise Refused(f"{label} {error}: it is refused and nothing of it was run; get the file from its owner") from error
  except Exception as error:  # a damaged pickle raises the errors of all functions that it may call
    raise ValueError(f"{label} is not a whole pickle ({type(error).__name__}: {error}): fetch it again") from error


# What Python's zipfile raises for damaged archives; seeks to offsets that lie are OSError, versions RuntimeError.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error, OSError)


def load_npz(path, content: bytes | None = None) -> dict[str, Any]:
  """The arrays of an npz file by name, or of its `content` where `path` is only what errors call it. An object array
  without axes becomes the object it holds.

  Raises as `load` and `bounded` do, and ValueError for a damaged file.
  """
  packed = bounded(path) if content is None else io.BytesIO(content)
  arrays = {}
  try:
    with zipfile.ZipFile(packed) as archive:
      infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
      if (total := sum(info.file_size for info in infos)) > MAX_BYTES:
        raise ValueError(f"{path} unpacks to {total:,} bytes, more than {MAX_BYTES:,}: it is refused")
      for info in infos:
        name = info.filename.removesuffix(".npy")
        with archive.open(info) as file:
          arrays[name] = _read_array(file, f"{path}: {name}")
  except ZIP_ERRORS as error:
    raise ValueError(f"{path} is not a whole npz file ({error}): fetch it again") from error
  return arrays


def load_npy(path) -> Any:
  """The array of an npy file. Raises as `load_npz` does."""
  path = bounded(path)
  with path.open("rb") as file:
    return _read_array(file, str(path))


def bounded(path) -> pathlib.Path:
  """The path of an existing file of at most MAX_BYTES. Raises FileNotFoundError or ValueError."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a file")
  if path.stat().st_size > MAX_BYTES:
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}: it is refused")
  return path


def _read_array(file, label: str):
  try:
    version = npy_format.read_magic(file)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
  except Exception as error:  # NumPy parses the header as Python source, with many types of errors
    raise ValueError(f"{label} is not a whole npy array ({' '.join(str(error).split())}): fetch it again") from error
  if dtype.hasobject:
    value = load(file, label, "latin1")
    if not isinstance(value, np.ndarray) or value.shape != shape:
      raise ValueError(f"{label} does not hold the array its header announces: fetch it again")
    return value.item() if value.ndim == 0 else value
  size = math.prod(shape) * dtype.itemsize
  if size > MAX_BYTES or min(shape, default=0) < 0:
    raise ValueError(f"{label} announces shape {shape}, {size:,} bytes, more than {MAX_BYTES:,}: it is refused")
  data = file.read(size)
  if len(data) < size:
    raise ValueError(f"{label} ends after {len(data):,} of {size:,} bytes: fetch it again")
  return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")
