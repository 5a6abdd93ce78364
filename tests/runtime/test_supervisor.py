"""Four processes under the supervisor of docs/devices.md, and a training that goes on with another number of them."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import LIGHT, ROOT
from tests.runtime.starts import assert_same
from tests.scripts import SMOKE, run

UPDATES, KILLS = 200, (50, 100, 150)
FLAGS = (SMOKE, f"--updates={UPDATES}", "--log_every=10", "--save_every=5")
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": LIGHT}
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def supervise(tmp_path_factory) -> pathlib.Path:
  """The script as the page has it."""
  page = (ROOT / "docs" / "devices.md").read_text()
  path = tmp_path_factory.mktemp("supervisor") / "supervise.sh"
  path.write_text(re.search(r"<!-- supervisor -->\n```\n(.+?)```", page, re.S)[1])
  assert len(path.read_text().splitlines()) <= 12
  return path


def newest(folder: pathlib.Path) -> int:
  """The newest saved step."""
  steps = [int(path.name) for path in (folder / "checkpoints" / "adapted").glob("*") if path.name.isdigit()]
  return max(steps, default=0)


def kill_one(folder: pathlib.Path, number: int) -> bool:
  """kill -9 of process `number` of the training in the folder; whether there was one."""
  found = subprocess.run(["pgrep", "-f", f"workdir={folder}.*process_id={number}"], capture_output=True, text=True)
  for pid in found.stdout.split():
    os.kill(int(pid), signal.SIGKILL)
  return bool(found.stdout)


def test_four_processes_of_which_one_is_killed_every_fifty_steps_end_as_one_unbroken_process(
    alone, supervise, tmp_path
):
  folder, flags = alone
  log = tmp_path / "log"
  command = ["bash", supervise, "4", sys.executable, "-m", "experiments.adapt", *flags, f"--workdir={tmp_path}/four"]
  with log.open("w") as output:
    supervisor = subprocess.Popen(
        command + ["--peer_timeout=20"], cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
    killed = []
    try:
      for step in KILLS:
        while newest(tmp_path / "four") < step and supervisor.poll() is None:
          time.sleep(0.01)
        killed += [newest(tmp_path / "four")] * kill_one(tmp_path / "four", len(killed) % 4)
      assert supervisor.wait(timeout=1500) == 0, log.read_text()[-3000:]
    finally:
      subprocess.run(["pkill", "-9", "-f", f"workdir={tmp_path}/four"])
      supervisor.kill()
  assert len(killed) == len(KILLS) and log.read_text().count("starting all again") >= len(KILLS)
  assert_same(folder, tmp_path / "four", UPDATES)


def test_a_training_goes_on_with_another_number_of_processes(alone, supervise, tmp_path):
  folder, flags = alone
  flags = [*flags, f"--workdir={tmp_path}/elastic"]
  for number, until in ((4, 40), (2, 120)):
    command = ["bash", supervise, str(number), sys.executable, "-m", "experiments.adapt", *flags, "--peer_timeout=20"]
    with (tmp_path / f"log{number}").open("w") as output:
      supervisor = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
      while newest(tmp_path / "elastic") < until and supervisor.poll() is None:
        time.sleep(0.01)
      assert supervisor.poll() is None, (tmp_path / f"log{number}").read_text()[-3000:]
      supervisor.kill()
      subprocess.run(["pkill", "-9", "-f", f"workdir={tmp_path}/elastic"])
      supervisor.wait()
  done = run("adapt", *flags)
  assert done.returncode == 0 and "Resuming adapted at step" in done.stdout, done.stderr[-3000:]
  assert_same(folder, tmp_path / "elastic", UPDATES)
