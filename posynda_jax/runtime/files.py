"""Atomic writes: a reader finds the old file or the whole new one. Only process 0 writes."""

import contextlib
import io
import json
import pathlib
from collections.abc import Iterator
from typing import IO

from posynda_jax.runtime import processes


@contextlib.contextmanager
def writing(path) -> Iterator[IO[bytes]]:
  """A binary file that replaces `path` when the block ends. An error in the block keeps the old file."""
  if not processes.is_main():
    yield io.BytesIO()
    return
  path = pathlib.Path(path).expanduser()
  part = path.with_name(f"{path.name}.part")
  try:
    with part.open("wb") as file:
      yield file
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
  """Writes `text` as UTF-8."""
  with writing(path) as file:
    file.write(text.encode())


def write_json(path, value) -> None:
  """Writes `value` as indented JSON with sorted names."""
  write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
