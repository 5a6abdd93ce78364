"""Writes plain data with NumPy arrays as a PyTorch checkpoint file, without PyTorch: `torch.load` gives tensors for the arrays.

It is the zip container of `torch.save`: a protocol 2 pickle that names storages, and each storage's numbers as one entry, stored
at a multiple of 64 bytes. The same data gives the same bytes.
"""

import collections
import io
import pathlib
import pickle
import sys
import zipfile
from typing import Any

import numpy as np

from posynda_jax.interop import torch_checkpoint

_STORAGES = {np.dtype(dtype): name for name, dtype in torch_checkpoint.DTYPES.items()}
_ALIGNMENT = 64


class _Name:
  """A global name, `module name` in the pickle, that need not exist here."""

  def __init__(self, module: str, name: str):
    self.text = f"{module}\n{name}\n".encode()

  def __call__(self):
    raise TypeError("a name of another program")


_REBUILD = _Name("torch._utils", "_rebuild_tensor_v2")
_ORDERED = _Name("collections", "OrderedDict")
_TYPES = {dtype: _Name("torch", name) for dtype, name in _STORAGES.items()}


class _Storage:
  def __init__(self, array: np.ndarray, key: str):
    self.array, self.key = array, key


class _Pickler(pickle._Pickler):  # the Python form, whose way with names can be replaced
  def __init__(self, file):
    super().__init__(file, protocol=2)
    self.storages: list[_Storage] = []

  def persistent_id(self, thing):
    if not isinstance(thing, _Storage):
      return None
    return "storage", _TYPES[thing.array.dtype], thing.key, "cpu", thing.array.size

  def reducer_override(self, thing):
    if isinstance(thing, _Name):
      return "name"
    if not isinstance(thing, np.ndarray):
      return NotImplemented
    if thing.dtype not in _TYPES:
      raise ValueError(f"an array of type {thing.dtype} cannot be a tensor: convert it to one of {', '.join(map(str, _TYPES))}")
    array = np.asarray(thing, order="C")
    storage = _Storage(array.reshape(-1), str(len(self.storages)))
    self.storages.append(storage)
    strides = tuple(step // array.itemsize for step in array.strides)
    return _REBUILD, (storage, 0, array.shape, strides, False, collections.OrderedDict())

  def save_global(self, thing, name=None):
    name = _ORDERED if thing is collections.OrderedDict else thing
    if not isinstance(name, _Name):
      raise ValueError(f"{thing!r} is not plain data: a checkpoint holds dicts, lists, numbers, text and arrays")
    self.write(pickle.GLOBAL + name.text)
    self.memoize(thing)


def save(path, value: Any) -> None:
  """Writes `value`, dicts and lists of plain values and arrays, to the new file `path`.

  Raises ValueError for anything else in it, and FileExistsError for a file that is there.
  """
  path = pathlib.Path(path)
  pickled = io.BytesIO()
  pickler = _Pickler(pickled)
  pickler.dump(value)
  with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
    root = path.name.partition(".")[0] or "archive"
    _add(archive, f"{root}/data.pkl", pickled.getvalue())
    _add(archive, f"{root}/byteorder", sys.byteorder.encode())
    for storage in pickler.storages:
      _add(archive, f"{root}/data/{storage.key}", storage.array.tobytes())
    _add(archive, f"{root}/version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, raw: bytes) -> None:
  """Adds an entry whose numbers start at a multiple of 64 bytes: the extra field before them is padded."""
  info = zipfile.ZipInfo(name)
  start = archive.fp.tell() + 30 + len(name.encode())
  padding = (-start - 4) % _ALIGNMENT
  info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
  archive.writestr(info, raw)
