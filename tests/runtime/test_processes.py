"""Several processes and devices: one batch, one trajectory; who starts them, what each reads, and what happens when one dies."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from posynda_jax.adaptation import adapt, bases, pretrain
from posynda_jax.data import clips, feed, tracks
from posynda_jax.diffusion.denoisers import make_model
from posynda_jax.runtime import checkpoint, parallel, runs
from tests import LIGHT
from tests.data.test_pipeline import record
from tests.experiments.test_experiments import ROOT, SMOKE, run

UPDATES = 20
FLAGS = (SMOKE, f"--updates={UPDATES}", "--log_every=1", "--save_every=1")


def sources() -> dict[str, clips.ClipSource]:
  cut = lambda frames, fields, name: clips.ClipSource(tracks.make_tracks([record(frames, name=name)], fields, 50.0), 9)
  return {"source": cut(100, tracks.LABELLED, "walk"), "target": cut(170, tracks.UNLABELLED, "run")}


@pytest.mark.parametrize("count", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(count):
  sizes, start = {"source": 4, "target": 8}, 5
  whole = feed.Feed(sources(), sizes, 3, part=(0, 1))
  parts = [feed.Feed(sources(), sizes, 3, start, (i, count)) for i in range(count)]
  for _ in range(start):
    next(whole)
  for _ in range(7):  # past the end of an epoch
    together = jax.tree.map(lambda *rows: np.concatenate(rows), *map(next, parts))
    jax.tree.map(np.testing.assert_array_equal, together, next(whole))
  assert {json.dumps(part.get_state()) for part in parts} == {json.dumps(whole.get_state())}


def test_a_batch_that_the_processes_cannot_share_is_refused():
  with pytest.raises(ValueError, match="target batch size 6 is not divisible by 4 processes"):
    feed.Feed(sources(), {"source": 4, "target": 6}, 0, part=(0, 4))


def test_batches_wait_on_the_devices_and_the_state_counts_those_handed_out():
  draw = lambda: feed.batches(sources(), {"source": 4, "target": 4}, 0)
  ahead, plain = parallel.DeviceFeed(draw(), 2), draw()
  assert ahead.get_state() == {"step": 0}
  for step in range(1, 4):
    batch = next(ahead)
    assert ahead.get_state() == {"step": step}
    assert {leaf.sharding.device_set == set(jax.local_devices()[:2]) for leaf in jax.tree.leaves(batch)} == {True}
    jax.tree.map(np.testing.assert_array_equal, batch, parallel.shard(next(plain), 2))
  again = draw()
  again.set_state(ahead.get_state())
  jax.tree.map(np.testing.assert_array_equal, next(again), next(plain))


SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[3-6]", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
OPEN_MPI_4 = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.0.0.3,10.1.0.3:34911"}


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
def test_flags_or_the_launcher_tell_who_is_who(environment, given, joined, monkeypatch):
  for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
    monkeypatch.delenv(name)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  calls = []

  class Joined(Exception):
    pass

  class Service:  # where JAX, having found out who is who, would open connections
    def __init__(self, address, node, **_):
      calls.append((address, node))
      raise Joined

  state = parallel.distributed.State()
  monkeypatch.setattr(parallel.distributed, "global_state", state)
  monkeypatch.setattr(parallel.distributed.xla_bridge, "backends_are_initialized", lambda: False)
  monkeypatch.setattr(parallel.distributed._jax, "get_distributed_runtime_client", Service)
  updates = {}
  monkeypatch.setattr(parallel.distributed.config, "update", updates.__setitem__)
  if joined is None:
    parallel.start(**given)
    assert not calls
  elif isinstance(joined, str):
    with pytest.raises(ValueError, match=joined):
      parallel.start(**given)
  else:
    with pytest.raises(Joined):
      parallel.start(**given)
    address, count, number, devices = joined
    assert calls[0][1] == number and state.num_processes == count
    assert address is None or calls[0][0] == address
    assert updates.get("jax_cuda_visible_devices") == (devices and ",".join(map(str, devices)))


def start_two(*flags: str) -> list[subprocess.Popen]:
  """Two processes of four devices each, of one adaptation, over gloo."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{LIGHT} --xla_force_host_platform_device_count=4"}
  join = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--peer_timeout=5")
  command = [sys.executable, "-m", "experiments.adapt", *flags, *join]
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  return [subprocess.Popen([*command, f"--process_id={i}"], cwd=ROOT, env=environment, **pipes) for i in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data) -> tuple[pathlib.Path, list[str]]:
  """The folder of one process on one device, and the flags to adapt the same (random) base on the same data elsewhere."""
  folder = tmp_path_factory.mktemp("processes")
  model = {"num_frames": 3, "width": 16, "depth": 1, "num_heads": 1, "drop_path": 0.0, "dtype": "float32"}
  config = pretrain.PretrainConfig()
  (folder / "base").mkdir()
  runs.write_json(folder / "base" / "config.json", {
      "model": model, "pretrain": dataclasses.asdict(config), "clip_fps": 12.5, "source": "synthetic_motion/source",
  })
  params = pretrain.init_state(jax.random.key(0), make_model(model), config).params
  checkpoint.save_tree(folder / "base" / "base", params)
  flags = [*FLAGS, data, f"--base={folder}/base"]
  done = run("adapt", *flags, f"--workdir={folder}/alone")
  assert done.returncode == 0, done.stderr[-3000:]
  return folder / "alone", flags


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
  """The same losses at every step, adapter and metrics."""
  losses = [runs.read_scalars(folder)["adapted/loss"] for folder in (one, other)]
  assert len(losses[0]) == UPDATES and len(losses[1]) >= UPDATES - 1  # kill -9 may take a logged line with it, never a step
  for step, loss in losses[1].items():
    np.testing.assert_allclose(loss, losses[0][step], rtol=1e-5, atol=1e-5)
  base, config = bases.load(runs.read_config(one)["base_folder"]), adapt.AdaptConfig(**runs.read_config(one)["adapt"])
  like = jax.eval_shape(lambda: adapt.init_adapter(jax.random.key(0), base.params, config))
  adapters = [checkpoint.load_tree(folder / "adapted", like) for folder in (one, other)]
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(adapters[0])) > 1e-3
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *adapters)
  metrics = [runs.read_metrics(folder) for folder in (one, other)]
  assert metrics[0]["protocol"] == metrics[1]["protocol"]
  for row in ("source_only", "adapted"):
    for name in set(metrics[0][row]) - {"seconds"}:
      np.testing.assert_allclose(metrics[0][row][name], metrics[1][row][name], rtol=1e-5)


@pytest.mark.long
def test_eight_devices_of_one_process_follow_the_trajectory_of_one(alone, tmp_path):
  folder, flags = alone
  done = run("adapt", *flags, f"--workdir={tmp_path}/eight", env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
  assert done.returncode == 0 and done.stdout.startswith("8 x "), done.stderr[-3000:]
  assert_same_run(folder, tmp_path / "eight")


def test_two_processes_lose_one_are_stopped_resume_and_follow_the_trajectory_of_one(alone, tmp_path):
  folder, flags = alone
  flags = [*flags, f"--workdir={tmp_path}/two"]
  first = start_two(*flags)
  saved = tmp_path / "two" / "checkpoints" / "adapted"
  steps = lambda: {int(path.name) for path in saved.glob("*") if path.name.isdigit()}
  while not steps() and first[1].poll() is None:
    time.sleep(0.005)
  first[1].send_signal(signal.SIGKILL)
  out, err = first[0].communicate(timeout=60)
  assert first[1].wait() == -signal.SIGKILL and first[0].returncode, err
  last = err.strip().splitlines()[-1]
  assert last.startswith("error: process 0 of 2 was ended") and "start all of them again" in last
  assert "8 x cpu (cpu) of 2 processes" in out and not (tmp_path / "two" / "metrics.json").exists()

  before, stopped = steps(), start_two(*flags)
  while not steps() - before and stopped[1].poll() is None:
    time.sleep(0.005)
  stopped[1].send_signal(signal.SIGTERM)  # one hears it, both stop after the same step, which is saved
  (out, err), (_, err_1) = (process.communicate(timeout=120) for process in stopped)
  assert [process.returncode for process in stopped] == [0, 0], err[-3000:] + err_1[-3000:]
  assert f"Stopped after step {max(steps())} of {UPDATES} of adapted, which is saved" in out and max(steps()) < UPDATES

  second = start_two(*flags)
  (out, err), (silent, err_1) = (process.communicate(timeout=120) for process in second)
  assert [process.returncode for process in second] == [0, 0], err[-3000:] + err_1[-3000:]
  assert "Resuming adapted at step" in out and "error" not in err + err_1
  # Gloo prints on both, its lines interleaved: a piece of one may be a line by itself, even a bare number
  printed = [line for line in out.splitlines() if re.search("[a-z]", line) and not re.search("Gloo|connected|peer ranks", line)]
  assert "step/s" in err and "step/s" not in err_1, "only process 0 shows progress"
  for words in ("of 2 processes, jax", "Adapter: ", "Resuming adapted at step", "Compiling adapted", "MPJPE mm"):
    assert any(words in line for line in printed), words
  assert not any(line in silent for line in printed), "only process 0 prints"
  assert len((tmp_path / "two" / "commands.jsonl").read_text().splitlines()) == 3, "only process 0 writes"
  assert_same_run(folder, tmp_path / "two")
