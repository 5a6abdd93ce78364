"""Run folders: one owner, logged rows of all starts, and files that are old or new but never half."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading

import filelock
import pytest

from experiments import common
from posynda_jax.runtime import files, locks, runs
from tests import ROOT

OWNER = (
    "import sys, time; from posynda_jax.runtime import locks; locks.take(sys.argv[1]); print('taken', flush=True); "
    "time.sleep(60)"
)


def test_a_folder_has_one_owner_until_that_process_ends_or_gives_it_back(tmp_path):
  owned, free = tmp_path / "owned", tmp_path / "free"
  runs.Run(owned, {"seed": 0})
  runs.Run(owned, {"seed": 0})  # the same process may
  other = subprocess.run([sys.executable, "-c", OWNER, owned], cwd=ROOT, capture_output=True, text=True)
  assert f"is in use by process {os.getpid()} on {socket.gethostname()}" in other.stderr and not other.stdout
  free.mkdir()
  for folder in (free, owned):
    locks.give_back(folder)
    owner = subprocess.Popen([sys.executable, "-c", OWNER, folder], cwd=ROOT, stdout=subprocess.PIPE)
    with owner.stdout:
      assert owner.stdout.readline() == b"taken\n"
      with pytest.raises(locks.InUse, match=f"in use by process {owner.pid} on"):
        runs.Run(folder, {"seed": 0})
      owner.kill()  # no handler runs
      owner.wait()
  assert not (free / "config.json").exists()
  runs.Run(free, {"seed": 0})


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, capsys):
  def refuse(*_, **__):
    raise OSError(errno.ENOLCK, "No locks available")

  monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
  locks.take(tmp_path)
  assert capsys.readouterr().out.startswith(f"warning: {tmp_path} is on a file system without locks")


def test_a_folder_of_another_config_is_refused_by_what_differs(tmp_path):
  config = {"seed": 0, "model": {"width": 16, "depth": 1}}
  runs.Run(tmp_path, config)
  with pytest.raises(ValueError, match=r"another config \(model.width: 16 there, 32 now; seed: 0 there, None now\)"):
    runs.Run(tmp_path, {"model": {"width": 32, "depth": 1}})
  assert runs.read_config(tmp_path) == config and runs.read_metrics(tmp_path) == {}
  with pytest.raises(FileNotFoundError, match="is not a run folder"):
    runs.read_config(tmp_path / "figures")


def test_rows_are_those_of_all_starts_and_a_step_logged_twice_counts_once(tmp_path):
  path = tmp_path / runs.SCALARS
  for values in ({2: 1.0, 4: 0.5}, {4: 0.25, 6: 0.125}):
    run = runs.Run(tmp_path, {"seed": 0})
    write = run.write_scalars("adapted")
    for step, value in values.items():
      write(step, {"loss": value, "grad_norm": 1.0})
    run.close()
    with path.open("a") as file:
      file.write('{"training": "adapted", "step": 4, "lo')  # killed while it wrote
  assert runs.read_scalars(tmp_path)["adapted/loss"] == {2: 1.0, 4: 0.25, 6: 0.125}
  assert runs.read_scalars(tmp_path / "none") == {}
  events = list((tmp_path / "events").iterdir())
  assert len(events) == 2 and all(b"adapted/loss" in file.read_bytes() for file in events)
  commands = (tmp_path / "commands.jsonl").read_text().splitlines()
  assert [json.loads(line)["command"] for line in commands] == [sys.argv] * 2
  path.write_text('{"training"\n' + path.read_text())
  with pytest.raises(ValueError, match="scalars.jsonl is damaged in line 1"):
    runs.read_scalars(tmp_path)


def test_a_failed_write_keeps_the_old_file(tmp_path):
  path = tmp_path / "metrics.json"
  files.write_json(path, {"a": 1})
  with pytest.raises(ZeroDivisionError), files.writing(path) as file:
    file.write(b"half")
    1 / 0
  assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number, shown", [(errno.ENOSPC, False), (errno.EROFS, False), (errno.EIO, True)])
def test_a_thread_that_a_full_disk_ends_adds_nothing_to_the_scripts_own_line(number, shown, capsys):
  arguments = threading.ExceptHookArgs((OSError, OSError(number, "the disk"), None, None))
  common._report_of_thread(arguments)
  assert ("the disk" in capsys.readouterr().err) == shown
