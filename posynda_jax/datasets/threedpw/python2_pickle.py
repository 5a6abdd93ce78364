"""Writes pickles as Python 2 does (protocol 2): the format of 3DPW, which no Python 3 pickler writes any more.

Strings and the bytes of arrays are Python 2 `str`, so that readers need `encoding="latin1"`; dtypes carry 0 and 1 for their
flags. For the dummy data of the tests; files are read through `posynda_jax.data.safe_pickle`.
"""

import struct

import numpy as np


def dumps(value) -> bytes:
  """The pickle of dicts, lists, tuples, text of Latin-1, numbers, None and numeric NumPy arrays, nested as one likes."""
  return b"\x80\x02" + _save(value) + b"."


def _save(value) -> bytes:
  if value is None:
    return b"N"
  if isinstance(value, bool):
    return b"\x88" if value else b"\x89"
  if isinstance(value, int):
    return b"J" + struct.pack("<i", value)
  if isinstance(value, float):
    return b"G" + struct.pack(">d", value)
  if isinstance(value, str):
    return _string(value.encode("latin1"))
  if isinstance(value, list):
    return b"](" + b"".join(map(_save, value)) + b"e"
  if isinstance(value, tuple):
    return b"(" + b"".join(map(_save, value)) + b"t"
  if isinstance(value, dict):
    return b"}(" + b"".join(_save(key) + _save(item) for key, item in value.items()) + b"u"
  if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
    return _array(value)
  raise TypeError(f"cannot write a {type(value).__name__}")


def _string(content: bytes) -> bytes:
  short = len(content) < 256
  return (b"U" + bytes([len(content)]) if short else b"T" + struct.pack("<i", len(content))) + content


def _array(array: np.ndarray) -> bytes:
  fortran = bool(array.flags.f_contiguous and not array.flags.c_contiguous)
  order = "|" if array.itemsize == 1 else "<"
  dtype = b"cnumpy\ndtype\n" + _save((array.dtype.str[1:], 0, 1)) + b"R" + _save((3, order, None, None, None, -1, -1, 0)) + b"b"
  empty = b"(" + b"cnumpy\nndarray\n" + _save((0,)) + _save("b") + b"t"
  content = _string(array.astype(array.dtype.newbyteorder("<")).tobytes("F" if fortran else "C"))
  state = b"(" + _save(1) + _save(array.shape) + dtype + _save(fortran) + content + b"t"
  return b"cnumpy.core.multiarray\n_reconstruct\n" + empty + b"R" + state + b"b"

