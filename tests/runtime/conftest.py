"""One command that the fault tests start often, and its unbroken run."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests import LIGHT, ROOT
from tests.runtime import tiny_jobs
from tests.runtime.starts import Start
from tests.scripts import run_well


@pytest.fixture
def start(tmp_path) -> Callable[..., Start]:
  """A function that starts a command on one CPU device. Commands that still run at the end of the test are killed."""
  starts = []

  def begin(*command: str) -> Start:
    log = tmp_path / f"log{len(starts)}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": LIGHT}
    with log.open("w") as file:
      process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    starts.append(Start(process, log))
    return starts[-1]

  yield begin
  for one in starts:
    if one.process.poll() is None:
      one.process.kill()
      one.process.wait()


@pytest.fixture(scope="session")
def command(tmp_path_factory, smoke_base) -> list[str]:
  """A source-free adaptation of the smoke base to own keypoints: 12 updates, saved every 2."""
  own = tiny_jobs.own_keypoints(tmp_path_factory.mktemp("own"))
  return [sys.executable, "-m", "experiments.adapt", smoke_base, *own]


@pytest.fixture(scope="session")
def whole(command, tmp_path_factory) -> pathlib.Path:
  """The folder of the unbroken run of `command`."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  run_well("adapt", *command[3:], f"--workdir={folder}")
  return folder


@pytest.fixture(scope="module")
def alone(request, tmp_path_factory, data, smoke_base) -> tuple[pathlib.Path, list[str]]:
  """The folder of the module's FLAGS in one process on one device, and the flags that adapt the same elsewhere."""
  folder, flags = tmp_path_factory.mktemp("alone") / "run", [*request.module.FLAGS, data, smoke_base]
  run_well("adapt", *flags, f"--workdir={folder}")
  return folder, flags
