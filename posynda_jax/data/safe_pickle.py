"""Pickles from strangers without running their code: plain containers and numpy arrays, nothing else.

A pickle is a program that may call any importable function and set any state. Here it can call only what builds numbers, text,
containers and numpy arrays, and any other name is refused before anything of it runs. An array takes only bytes that agree with
its type: numpy itself believes a pickle that calls eight raw bytes an object. Object arrays in npz files, the pickles of 3DPW
(Python 2: `encoding="latin1"`) and PyTorch checkpoints all come through this door.
"""

import collections
import math
import pathlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy._core import multiarray, numeric
from numpy.lib import format as npy_format

MAX_BYTES = 8 * 2**30  # the largest file of the field, all 2D of Human3.6M in one npz, has about one GiB


class Refused(ValueError):
  """A pickle that is more, or less honest, than plain data."""


class _Ndarray:
  """Stands for the class numpy.ndarray, which pickles name but have no honest reason to call."""


class Ignored:
  """Stands for things that a file names and nobody needs: what would build one is dropped unlooked at. For `extra` of `load`."""

  def __new__(cls, *args):
    return super().__new__(cls)


def _reconstruct(kind, shape, code):
  if kind is not _Ndarray or tuple(shape) != (0,) or code not in (b"b", "b"):
    raise Refused("builds an array in an unusual way")
  return np.empty(0, np.int8)


def _dtype(spec, align=False, copy=False) -> np.dtype:
  dtype = np.dtype(spec, copy=True)  # its state is set later: never that of the type the whole process uses
  if dtype.names or dtype.subdtype or dtype.metadata:
    raise Refused(f"holds an array of the structured type {spec!r}")
  return dtype


def _scalar(dtype: np.dtype, data):
  if dtype.hasobject:
    raise Refused("holds a scalar of type object")
  return multiarray.scalar(dtype, data.encode("latin1") if isinstance(data, str) else data)


def _encode(text: str, encoding: str = "utf-8") -> bytes:
  """How pickles of protocol 2 spell bytes; the real `codecs.encode` knows codecs that do more."""
  if encoding not in ("latin1", "latin-1", "utf-8", "utf8"):
    raise Refused(f"asks for the codec {encoding!r}")
  return text.encode(encoding)


def _filled(kind: type) -> Callable:
  """`bytes` or `bytearray` of what the pickle holds; a bare count would fill the memory."""

  def make(*args):
    if args and not isinstance(args[0], (bytes, bytearray, str, list, tuple)):
      raise Refused(f"fills {kind.__name__} by count")
    return kind(*args)

  return make


def _allowed() -> dict[tuple[str, str], Any]:
  names: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _Ndarray, ("numpy", "dtype"): _dtype, ("_codecs", "encode"): _encode}
  for core in ("numpy.core", "numpy._core"):
    names |= {(f"{core}.multiarray", "_reconstruct"): _reconstruct, (f"{core}.multiarray", "scalar"): _scalar}
    names[f"{core}.numeric", "_frombuffer"] = numeric._frombuffer
  for module in ("builtins", "__builtin__"):
    names |= {(module, kind.__name__): kind for kind in (set, frozenset, list, dict, tuple, complex, int, float, bool, str)}
    names |= {(module, kind.__name__): _filled(kind) for kind in (bytes, bytearray)}
  names["collections", "OrderedDict"] = collections.OrderedDict
  names["collections", "defaultdict"] = collections.defaultdict
  return names


ALLOWED = _allowed()


class _Unpickler(pickle._Unpickler):  # the Python form of pickle.Unpickler: its BUILD can be replaced, and files hold few opcodes
  dispatch = dict(pickle._Unpickler.dispatch)

  def __init__(self, file, encoding: str, extra: Mapping, persistent: Callable | None):
    super().__init__(file, encoding=encoding)
    self._names = {**ALLOWED, **extra}
    self._persistent = persistent

  def find_class(self, module: str, name: str):
    if (module, name) not in self._names:
      raise Refused(f"names {module}.{name}, which is not plain data")
    return self._names[module, name]

  def persistent_load(self, pid):
    if self._persistent is None:
      raise Refused("holds a persistent reference, which plain data does not")
    return self._persistent(pid)

  def load_build(self):
    state = self.stack.pop()
    thing = self.stack[-1]
    if type(thing) is np.ndarray:
      _set_array(thing, state)
    elif isinstance(thing, np.dtype):
      _set_dtype(thing, state)
    elif isinstance(thing, Ignored):
      return
    elif not (isinstance(thing, dict) and isinstance(state, dict)):  # attributes of a dict (PyTorch's _metadata) are dropped
      raise Refused(f"sets the state of a {type(thing).__name__}")

  dispatch[pickle.BUILD[0]] = load_build


def _set_array(array: np.ndarray, state) -> None:
  _, shape, dtype, _, data = state
  if dtype.hasobject:
    honest = isinstance(data, list) and len(data) == math.prod(shape)
  else:
    honest = isinstance(data, (bytes, str)) and len(data) == math.prod(shape) * dtype.itemsize
  if not honest or min(shape, default=0) < 0:
    raise Refused(f"holds an array whose {len(data)} items or bytes are not those of shape {shape} and type {dtype}")
  array.__setstate__(state)


def _set_dtype(dtype: np.dtype, state) -> None:
  """The state that numpy itself would write: it may choose the byte order and nothing else."""
  if tuple(state) != dtype.newbyteorder(state[1]).__reduce__()[2]:
    raise Refused(f"changes the type {dtype}")
  dtype.__setstate__(state)


def load(file, label: str, encoding: str = "ASCII", extra: Mapping = {}, persistent: Callable | None = None) -> Any:
  """The plain data that the open binary `file` holds from its position on.

  `extra` allows further {(module, name): object}, `persistent` resolves persistent references (PyTorch's storages). Raises
  `Refused`, a ValueError, naming `label` and the offending global; ValueError for a damaged pickle.
  """
  try:
    return _Unpickler(file, encoding, extra, persistent).load()
  except Refused as error:
    raise Refused(f"{label} {error}: it is refused and nothing of it was run; get the file from its owner") from error
  except Exception as error:  # a damaged pickle can raise anything that the allowed constructors do
    raise ValueError(f"{label} is not a whole pickle ({type(error).__name__}: {error}): fetch it again") from error


def load_file(path, encoding: str = "ASCII") -> Any:
  """The plain data of a pickle file. Raises FileNotFoundError, and as `load` does."""
  path = bounded(path)
  with path.open("rb") as file:
    return load(file, str(path), encoding)


def load_npz(path, encoding: str = "latin1") -> dict[str, Any]:
  """The arrays of an npz file by name, object arrays through the same door; 0-d object arrays become what they hold.

  Raises FileNotFoundError; ValueError that names the file for a damaged one or one that is not plain data.
  """
  path = bounded(path)
  try:
    with zipfile.ZipFile(path) as archive:
      infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
      if (total := sum(info.file_size for info in infos)) > MAX_BYTES:
        raise ValueError(f"{path} unpacks to {total:,} bytes, more than {MAX_BYTES:,}: it is refused")
      return {info.filename[:-4]: _read_npy(archive, info, f"{path}: {info.filename[:-4]}", encoding) for info in infos}
  except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
    raise ValueError(f"{path} is not a whole npz file ({error}): fetch it again") from error


def load_npy(path, encoding: str = "latin1") -> Any:
  """The array of an npy file, object arrays through the same door. Raises as `load_npz` does."""
  path = bounded(path)
  with path.open("rb") as file:
    return _read_array(file, str(path), encoding)


def bounded(path) -> pathlib.Path:
  """The path of a file that is there and not larger than MAX_BYTES. Raises FileNotFoundError, ValueError."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a file")
  if path.stat().st_size > MAX_BYTES:
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}: it is refused")
  return path


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str, encoding: str):
  with archive.open(info) as file:
    return _read_array(file, label, encoding)


def _read_array(file, label: str, encoding: str):
  try:
    version = npy_format.read_magic(file)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
  except Exception as error:  # the header is parsed as Python's tokens
    raise ValueError(f"{label} is not a whole npy array ({' '.join(str(error).split())}): fetch it again") from error
  if dtype.hasobject:
    value = load(file, label, encoding)
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
