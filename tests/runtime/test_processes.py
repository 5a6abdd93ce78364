"""Several processes: how they find each other, that they train as one process does, and what happens when one dies."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from jax._src import distributed
from jax._src.lib import _jax

from posynda_jax.runtime import processes, runs
from tests import LIGHT, ROOT
from tests.runtime.starts import assert_same, free_port
from tests.scripts import SMOKE, run
from tests.tolerance import assert_close

UPDATES = 20
FLAGS = (SMOKE, f"--updates={UPDATES}", "--log_every=1", "--save_every=1")

SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[3-6]", "SLURM_NTASKS": "4", "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
OPEN_MPI_4 = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.0.0.3,10.1.0.3:34911"}


def test_jax_still_has_the_private_parts_that_start_up_uses():
  internals = processes._jax_internals()
  found = {it.name: it for it in internals.clusters}
  for name in processes._LAUNCHERS:
    assert callable(found[name].is_env_present) and callable(found[name].get_process_count)
  state = internals.state
  assert (state.process_id, state.num_processes, state.client) == (0, 1, None)
  assert callable(_jax.DistributedRuntimeClient.wait_at_barrier)


@pytest.mark.parametrize(
    "environment, given, joined",
    [
        ({}, {}, None),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {}, None),
        (SLURM, {}, ("node3:61447", 4, 2, [0])),
        (OPEN_MPI_4, {}, (None, 4, 2, [1])),
        (OPEN_MPI, {"coordinator": "node3:9000"}, ("node3:9000", 4, 2, [1])),
        ({}, {"coordinator": "node3:9000", "num_processes": 2, "process_id": 1}, ("node3:9000", 2, 1, None)),
        (OPEN_MPI, {}, "--coordinator=HOST:PORT not given"),
        ({}, {"coordinator": "node3:9000"}, "--num_processes, --process_id not given"),
        ({}, {"num_processes": 2}, "--coordinator=HOST:PORT, --process_id not given"),
    ],
)
def test_flags_or_the_launcher_give_addresses_and_numbers(environment, given, joined, monkeypatch):
  for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
    monkeypatch.delenv(name)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  calls, updates = [], {}

  class Joined(Exception):
    pass

  def connect(address, node, **_):  # jax calls it once it has all addresses and numbers
    calls.append((address, node))
    raise Joined

  state = distributed.State()
  monkeypatch.setattr(distributed, "global_state", state)
  monkeypatch.setattr(distributed.xla_bridge, "backends_are_initialized", lambda: False)
  monkeypatch.setattr(distributed._jax, "get_distributed_runtime_client", connect)
  monkeypatch.setattr(distributed.config, "update", updates.__setitem__)
  if joined is None:
    processes.start(**given)
    assert not calls
  elif isinstance(joined, str):
    with pytest.raises(ValueError, match=joined):
      processes.start(**given)
  else:
    with pytest.raises(Joined):
      processes.start(**given)
    address, count, number, devices = joined
    assert calls[0][1] == number and state.num_processes == count
    assert address is None or calls[0][0] == address
    assert updates.get("jax_cuda_visible_devices") == (devices and ",".join(map(str, devices)))


def start(number: int, port: int, *flags: str, peer_timeout: int = 5) -> subprocess.Popen:
  """Process `number` of two, with four devices, of one adaptation over gloo.

  Its output ends only when the child that reports its abort has ended too, which `tests.scripts.run` would not await.
  """
  environment = os.environ | {
      "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{LIGHT} --xla_force_host_platform_device_count=4",
  }
  join = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={number}")
  command = [sys.executable, "-m", "experiments.adapt", *flags, *join, f"--peer_timeout={peer_timeout}"]
  return subprocess.Popen(
      command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def start_two(*flags: str) -> list[subprocess.Popen]:
  port = free_port()
  return [start(number, port, *flags) for number in range(2)]


def end_both(started: list[subprocess.Popen]) -> tuple[list[str], list[str]]:
  """(outputs, error outputs) of two processes that end well."""
  outputs, errors = zip(*(process.communicate(timeout=120) for process in started))
  assert [process.returncode for process in started] == [0, 0], "".join(errors)[-6000:]
  return outputs, errors


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
  """The same losses at every step and the same results, up to rounding."""
  losses = [runs.read_scalars(folder)["adapted/loss"] for folder in (one, other)]
  assert losses[0].keys() == losses[1].keys() == set(range(1, UPDATES + 1))
  for step, loss in losses[1].items():
    assert_close(loss, losses[0][step], updates=step, message=f"loss at step {step}")
  assert_same(one, other, UPDATES)


def test_a_process_whose_peer_never_starts_ends_with_one_line():
  process = start(0, free_port(), *FLAGS, peer_timeout=1)
  output, error = process.communicate(timeout=120)
  assert process.returncode and not output
  assert error.strip().splitlines()[-1].startswith("error: process 0 of 2 was ended")
  assert "did not start within 3 s" in error


@pytest.mark.long
def test_eight_devices_of_one_process_follow_the_trajectory_of_one(alone, tmp_path):
  folder, flags = alone
  forced = {"XLA_FLAGS": f"{LIGHT} --xla_force_host_platform_device_count=8"}
  done = run("adapt", *flags, f"--workdir={tmp_path}/eight", env=forced)
  assert done.returncode == 0 and done.stdout.startswith("8 x "), done.stderr[-3000:]
  assert_same_run(folder, tmp_path / "eight")


def test_two_processes_lose_one_are_stopped_resume_and_follow_the_trajectory_of_one(alone, tmp_path):
  folder, flags = alone
  flags = [*flags, f"--workdir={tmp_path}/two"]
  saved = tmp_path / "two" / "checkpoints" / "adapted"

  def steps() -> set[int]:
    return {int(path.name) for path in saved.glob("*") if path.name.isdigit()}

  def start_until_saved() -> list[subprocess.Popen]:
    before, started = steps(), start_two(*flags)
    while not steps() - before and started[1].poll() is None:
      time.sleep(0.005)
    return started

  first = start_until_saved()
  first[1].send_signal(signal.SIGKILL)
  output, errors = first[0].communicate(timeout=60)
  assert first[1].wait() == -signal.SIGKILL and first[0].returncode, errors
  last = errors.strip().splitlines()[-1]
  assert last.startswith("error: process 0 of 2 was ended") and "start all of them again" in last
  assert "8 x cpu (cpu) of 2 processes" in output and not (tmp_path / "two" / "metrics.json").exists()

  stopped = start_until_saved()
  stopped[1].send_signal(signal.SIGTERM)  # one gets it, both stop after the same step, which is saved
  (output, _), _ = end_both(stopped)
  assert f"Stopped after step {max(steps())} of {UPDATES} of adapted, which is saved" in output
  assert max(steps()) < UPDATES

  (output, silent), (errors, errors_1) = end_both(start_two(*flags))
  assert "Resuming adapted at step" in output and "error" not in errors + errors_1
  # Gloo prints on both and interleaves its lines, so that a line may be a piece of one, even a bare number.
  gloo = re.compile("Gloo|connected|peer ranks")
  printed = [line for line in output.splitlines() if re.search("[a-z]", line) and not gloo.search(line)]
  assert "step/s" in errors and "step/s" not in errors_1, "only process 0 shows progress"
  for words in ("of 2 processes, jax", "Adapter: ", "Resuming adapted at step", "Compiling adapted", "MPJPE mm"):
    assert any(words in line for line in printed), words
  assert not any(line in silent for line in printed), "only process 0 prints"
  assert len((tmp_path / "two" / "commands.jsonl").read_text().splitlines()) == 3, "only process 0 writes"
  assert_same_run(folder, tmp_path / "two")
