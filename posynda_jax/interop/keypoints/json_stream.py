"""JSON files of any length, one element at a time: what is held is a chunk of text and the element at hand."""

import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

MAX_BYTES = 2**30  # of a file: 100,000 frames of a person with 136 joints have about 800 MB
MAX_ELEMENT = 2**26  # characters of one frame or detection
CHUNK = 2**18
_SPACE = re.compile(r"\s*")


class Reader:
  """Walks through a JSON document. Every error is a ValueError that names the file and what is wrong with it."""

  def __init__(self, path, max_bytes: int | None = None):
    self.path = pathlib.Path(path)
    limit = max_bytes or MAX_BYTES
    size = os.path.getsize(path)
    if size > limit:
      raise ValueError(f"{path} has {size:,} bytes, more than {limit:,}: it is refused; cut the video into pieces")
    self._file = open(path, encoding="utf-8-sig")
    self._text, self._at, self._decoder = "", 0, json.JSONDecoder()

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._file.close()

  def _more(self) -> bool:
    """Reads on; twice as much each time an element does not end, so that long ones cost no more than their length."""
    rest = self._text[self._at :]
    if len(rest) > MAX_ELEMENT:
      raise ValueError(f"{self.path} has one element of more than {MAX_ELEMENT:,} characters: it is refused")
    try:
      new = self._file.read(max(CHUNK, len(rest)))
    except UnicodeDecodeError as error:
      raise self._damaged("it is not text") from error
    self._text, self._at = rest + new, 0
    return bool(new)

  def _damaged(self, what: str) -> ValueError:
    return ValueError(f"{self.path} is not whole JSON ({what}): write or fetch it again")

  def peek(self) -> str:
    """The next character that is not white space; empty at the end."""
    while True:
      self._at = _SPACE.match(self._text, self._at).end()
      if self._at < len(self._text):
        return self._text[self._at]
      if not self._more():
        return ""

  def _take(self, expected: str) -> str:
    found = self.peek()
    if not found or found not in expected:
      raise self._damaged(f"{repr(found) if found else 'its end'} where {' or '.join(expected)} is expected")
    self._at += 1
    return found

  def value(self) -> Any:
    """The value that comes next, whole."""
    self.peek()
    while True:
      try:
        value, end = self._decoder.raw_decode(self._text, self._at)
      except RecursionError as error:
        raise self._damaged("nested too deeply") from error
      except ValueError as error:
        if not self._more():
          raise self._damaged(f"it breaks off or is damaged: {error}") from error
      else:
        length = end - self._at
        if end < len(self._text) or not self._more():  # a number at the end of the chunk may go on
          self._at += length
          return value

  def elements(self) -> Iterator[Any]:
    """The values of the array that comes next."""
    self._take("[")
    if self.peek() == "]":
      self._at += 1
      return
    while True:
      yield self.value()
      if self._take(",]") == "]":
        return

  def members(self) -> Iterator[str]:
    """The keys of the object that comes next; the caller takes each one's value before asking for the next."""
    self._take("{")
    if self.peek() == "}":
      self._at += 1
      return
    while True:
      if self.peek() != '"':
        self._take('"')
      key = self.value()
      self._take(":")
      yield key
      if self._take(",}") == "}":
        return

  def end(self) -> None:
    """Raises ValueError where the document goes on: two runs written into one file."""
    if self.peek():
      raise self._damaged("it goes on after its end")


def load_small(path, max_bytes: int = 2**24) -> Any:
  """The whole document of a small file."""
  with Reader(path, max_bytes) as reader:
    value = reader.value()
    reader.end()
    return value
