"""Atomic writes: a reader gets the old file or the whole new one. Process 0 alone writes."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import IO

from posynda_jax.runtime import processes


@contextlib.contextmanager
def writing(path) -> Iterator[IO[bytes]]:
  """A binary file that takes the place of `path` when the block ends; after an error the old file stays."""
  path = pathlib.Path(path).expanduser()
  beside = path.with_name(f"{path.name}.part")
  try:
    with open(beside, "wb") as file:
      yield file
    beside.replace(path)
  finally:
    beside.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
  """Writes `text` as UTF-8."""
  if processes.is_main():
    with writing(path) as file:
      file.write(text.encode())


def write_json(path, value) -> None:
  """Writes `value` as indented JSON with sorted names."""
  write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")
