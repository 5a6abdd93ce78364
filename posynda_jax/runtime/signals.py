"""SIGTERM and SIGINT end a run in order: exit code 0, and one line that says how to go on.

A thread waits for signals, because Python runs no handler while XLA compiles. Where nothing can be lost it ends the process at
once. Inside `held` it only notes the signal, and the loop asks for it after each step.
"""

import contextlib
import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from posynda_jax.runtime import processes

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_noted = threading.Event()
_lock = threading.Lock()
_holding = False
_ends: list[socket.socket] = []  # kept open for as long as the process lives


class Stopped(Exception):
  """A signal ended the run in order; the message says where."""


def listen() -> None:
  """Makes SIGTERM and SIGINT end the process with exit code 0 and a hint; a second SIGINT ends it at once."""
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  _ends.extend((reader, writer))
  jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM where there are several processes
  for number in SIGNALS:
    signal.signal(number, lambda *_: None)  # the byte that `set_wakeup_fd` writes is enough
  signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  threading.Thread(target=_wait, args=(reader,), daemon=True).start()


def _wait(reader: socket.socket) -> None:
  while True:
    number = reader.recv(1)[0]
    with _lock:
      if number == signal.SIGINT and _noted.is_set():
        processes.leave_at_once(130)
      if number in SIGNALS:
        _noted.set()
        if not _holding:
          os.write(1, f"\nStopped between saved steps: nothing is lost. {hint()}\n".encode())  # the main thread may hold `print`
          processes.leave_at_once(0)


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Inside, signals are noted from the first `hold` on. Raises Stopped at the end if there was one."""
  global _holding
  try:
    yield
  finally:
    with _lock:
      _holding = False
  if _noted.is_set():
    raise Stopped("Stopped at the end of a training, which is saved.")


def hold() -> None:
  """From now until the end of `held` a signal is only noted."""
  global _holding
  with _lock:
    _holding = True


def asked(together: bool) -> bool:
  """Whether to stop after this step. Several processes must stop after the same step, so they answer only when all ask
  `together`, which waits for the slowest.
  """
  if jax.process_count() == 1:
    return _noted.is_set()
  return together and bool(multihost_utils.process_allgather(np.array(_noted.is_set())).any())


def hint() -> str:
  """How to go on."""
  return f"The same command goes on from there: {shlex.join(sys.orig_argv)}"
