"""SIGTERM and SIGINT end a run with exit code 0 and a line that shows how to resume it.

A thread waits for signals, because Python runs no handler while XLA compiles. The thread ends the process at once if
no training would be lost. Inside `held` it only notes the signal, and the training loop checks for it after each step.
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
_sockets: list[socket.socket] = []  # a collected socket is closed, so these are kept


class Stopped(Exception):
  """A signal ended the run; the message says where."""


def listen() -> None:
  """Handles SIGTERM and SIGINT from now on. A second SIGINT ends the process at once, with exit code 130."""
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  _sockets.extend((reader, writer))
  jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM where there are several processes
  for number in SIGNALS:
    signal.signal(number, lambda *_: None)  # a handler must be set for `set_wakeup_fd` to write
  signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  threading.Thread(target=_handle, args=(reader,), daemon=True).start()


def _handle(reader: socket.socket) -> None:
  while True:
    number = reader.recv(1)[0]
    with _lock:
      if number == signal.SIGINT and _noted.is_set():
        processes.leave_at_once(130)
      if number in SIGNALS:
        _noted.set()
        if not _holding:
          # Not `print`, because the main thread may hold its lock.
          os.write(1, f"\nStopped between saved steps: nothing is lost. {hint()}\n".encode())
          processes.leave_at_once(0)


@contextlib.contextmanager
def held() -> Iterator[None]:
  """A block in which signals are only noted, from the first `hold` on. Raises Stopped at its end after a signal."""
  global _holding
  try:
    yield
  finally:
    with _lock:
      _holding = False
  if _noted.is_set():
    raise Stopped("Stopped at the end of a training, which is saved.")


def hold() -> None:
  """Notes signals, without ending the process, until the end of `held`."""
  global _holding
  with _lock:
    _holding = True


def asked(together: bool) -> bool:
  """Whether to stop after this step.

  Several processes must stop after the same step. They agree only in calls with `together`, which wait for the slowest
  process; other calls return False.
  """
  if jax.process_count() == 1:
    return _noted.is_set()
  return together and bool(multihost_utils.process_allgather(np.array(_noted.is_set())).any())


def hint() -> str:
  """The line that shows how to resume."""
  return f"The same command goes on from there: {shlex.join(sys.orig_argv)}"
