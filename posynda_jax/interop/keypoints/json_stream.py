"""JSON files of any length, parsed by `ijson` one element at a time. Memory holds one chunk of bytes and one element.

Every error is a ValueError of one line that names the file. Detectors written in Python save lost joints as NaN,
which JSON does not have. NaN and Infinity are read as null, and NumPy turns null into NaN.
"""

import codecs
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import ijson

MAX_BYTES = 2**30  # of a file; 100,000 frames of a person with 136 joints have about 800 MB
MAX_ELEMENT = 2**24  # bytes of one frame or detection
MAX_ELEMENTS = 2_000_000  # of a list: 200,000 frames of ten people
MAX_DEPTH = 100  # of nested lists and objects
CHUNK = 2**16
_NOT_JSON = re.compile(rb"-?\b(?:NaN|Infinity)\b")
_DEPTH = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}
_DAMAGES = {"UTF8": "it is not text", "trailing garbage": "it goes on after its end"}  # part of yajl's message -> cause


class Reader:
  """Walks through the document in a file. Its methods raise ValueError where the file is damaged or too large.

  A file with a document in each line (JSON lines) is read as the list of them.
  """

  def __init__(self, path):
    self.path = path
    self.has_lines = _has_lines(path)
    self._unused = 0  # bytes read since the last value began
    self._events = self._parse()
    self._event = next(self._events)

  def _parse(self) -> Iterator[tuple[str, Any]]:
    try:
      yield from [("start_array", None)] * self.has_lines
      yield from ijson.basic_parse(ijson.from_iter(self._chunks()), use_float=True, multiple_values=self.has_lines)
      yield from [("end_array", None)] * self.has_lines
    except (ijson.JSONError, UnicodeDecodeError) as error:
      message = str(error).removeprefix("b'").replace("\\n", "\n").partition("\n")[0].rstrip(".")
      known = (what for part, what in _DAMAGES.items() if part in message)
      raise self._damaged(next(known, f"it breaks off or is damaged: {message}")) from error
    yield "end", None

  def _chunks(self) -> Iterator[bytes]:
    """The bytes of the file without its byte order mark."""
    if (size := os.path.getsize(self.path)) > MAX_BYTES:
      limit = f"more than {MAX_BYTES:,}: it is refused; cut the video into pieces"
      raise ValueError(f"{self.path} has {size:,} bytes, {limit}")
    with open(self.path, "rb") as file:
      file.seek(3 if file.read(3) == codecs.BOM_UTF8 else 0)
      while chunk := file.read(CHUNK):
        for _ in range(8):  # so that no chunk ends inside of NaN or Infinity
          chunk += file.read(1 if chunk.endswith(b"-") or chunk[-1:].isalpha() else 0)
        self._unused += len(chunk)
        if self._unused > MAX_ELEMENT + CHUNK:
          raise ValueError(f"{self.path} has one element of more than {MAX_ELEMENT:,} bytes: it is refused")
        yield _NOT_JSON.sub(b"null", chunk) if b"NaN" in chunk or b"Infinity" in chunk else chunk

  def _damaged(self, what: str) -> ValueError:
    return ValueError(f"{self.path} is not whole JSON ({what}): write or fetch it again")

  @property
  def is_list(self) -> bool:
    """Whether the next value is a list."""
    return self._event[0] == "start_array"

  @property
  def is_object(self) -> bool:
    """Whether the next value is an object."""
    return self._event[0] == "start_map"

  def value(self) -> Any:
    """The next value."""
    builder, depth, self._unused = ijson.ObjectBuilder(), 0, 0
    while True:
      kind, value = self._event
      builder.event(kind, value)
      self._event = next(self._events)
      depth += _DEPTH.get(kind, 0)
      if depth > MAX_DEPTH:
        raise self._damaged("nested too deeply")
      if depth == 0:
        return builder.value

  def elements(self) -> Iterator[Any]:
    """The values of the next list."""
    self._enter("start_array")
    count = 0
    while self._event[0] != "end_array":
      if (count := count + 1) > MAX_ELEMENTS:
        limit = f"more than {MAX_ELEMENTS:,} elements"
        raise ValueError(f"{self.path} lists {limit}: it is refused; cut the video into pieces")
      yield self.value()
    self._event = next(self._events)

  def members(self) -> Iterator[str]:
    """The keys of the next object. The caller takes the value of each key before the next key."""
    self._enter("start_map")
    while (key := self._event)[0] != "end_map":
      self._event = next(self._events)
      yield key[1]
    self._event = next(self._events)

  def _enter(self, kind: str) -> None:
    if self._event[0] != kind:
      raise self._damaged(f"another value where {'{' if kind == 'start_map' else '['} is expected")
    self._event = next(self._events)


def load(path) -> Any:
  """The document in a small file, such as one frame. Raises ValueError."""
  return Reader(path).value()


def _has_lines(path) -> bool:
  """Whether the first line is a whole list or object, and another begins in the next."""
  with open(path, "rb") as file:
    line, after = file.readline(MAX_ELEMENT).removeprefix(codecs.BOM_UTF8), file.read(CHUNK).lstrip()
  if not line.endswith(b"\n") or line[:1] not in b"[{" or after[:1] not in (b"[", b"{"):
    return False
  try:
    json.loads(line)
  except (ValueError, RecursionError):
    return False
  return True
