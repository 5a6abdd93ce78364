"""What a checkpoint holds and refuses, damage by damage; one owner of a folder. Whole processes are killed in test_faults.py."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from posynda_jax.data import clips, tracks
from posynda_jax.runtime import checkpoint, loop, runs
from tests.data.test_pipeline import record
from tests.runtime.fault_driver import Feed, State

IDENTITY = {"seed": 0, "data": {"target": {"clips": 7, "digest": "aa"}}}


def state(step: int) -> State:
  rng = np.random.default_rng(step)
  draw = lambda: jax.numpy.asarray(rng.standard_normal((40, 30)), jax.numpy.float32)
  return State(jax.numpy.asarray(step, jax.numpy.int32), draw(), (draw(), draw()))


def write(folder, *steps: int, identity=IDENTITY, keep: int = 2) -> None:
  checkpoints = checkpoint.Checkpoints(folder, keep, identity)
  for step in steps:
    checkpoints.save(step, state(step), {"next": step})
  checkpoints.close()


def read(folder, identity=IDENTITY):
  checkpoints = checkpoint.Checkpoints(folder, 2, identity)
  try:
    return checkpoints.restore(state(0)), checkpoints
  finally:
    checkpoints.close()


def equal(a, b) -> bool:
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_step_holds_the_state_the_feed_and_the_time(tmp_path):
  write(tmp_path, 3, 6, 9)
  (found, fed), checkpoints = read(tmp_path)
  assert equal(found, state(9)) and fed == {"next": 9} and 0 < checkpoints.seconds < 60
  assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "9"]  # keep = 2
  feed = Feed()
  resumed = loop.resume(checkpoint.Checkpoints(tmp_path, 2, IDENTITY), state(0), feed)
  assert int(resumed.step) == 9 and feed.next == 9


def test_a_copy_is_saved_not_what_the_state_becomes(tmp_path):
  step = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf * 2, x), donate_argnums=0)
  checkpoints, now = checkpoint.Checkpoints(tmp_path, 2, IDENTITY), state(5)
  checkpoints.save(5, now, {"next": 5})
  for _ in range(20):
    now = step(now)
  checkpoints.close()
  assert equal(read(tmp_path)[0][0], state(5))


def test_another_identity_is_refused_by_what_differs_and_nothing_is_lost(tmp_path):
  write(tmp_path, 3, 6)
  before = sorted(tmp_path.rglob("*"))
  other = {"seed": 0, "data": {"target": {"clips": 8, "digest": "bb"}}}
  with pytest.raises(ValueError, match="data.target.clips: 7 there, 8 now; data.target.digest: aa there, bb now"):
    read(tmp_path, other)
  assert sorted(tmp_path.rglob("*")) == before


def test_data_is_told_apart_by_one_changed_number():
  source = lambda records: {"target": clips.ClipSource(tracks.make_tracks(records, tracks.UNLABELLED, 50.0), 9)}
  first = checkpoint.describe_data(source([record(47), record(20, name="run")]))
  assert first == checkpoint.describe_data(source([record(47), record(20, name="run")]))
  other = record(47)
  other["keypoints_px"] = other["keypoints_px"].copy()
  other["keypoints_px"][11, 3, 0] += 0.5
  changed = checkpoint.describe_data(source([other, record(20, name="run")]))
  assert changed["target"]["clips"] == first["target"]["clips"] and changed != first
  assert checkpoint.describe_data(source([record(47)]))["target"]["clips"] != first["target"]["clips"]


def files(step_folder: pathlib.Path) -> list[pathlib.Path]:
  return sorted(path for path in step_folder.rglob("*") if path.is_file())


def truncate(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: pathlib.Path) -> None:
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(bytes(data))


@pytest.mark.parametrize("harm", [truncate, flip, pathlib.Path.unlink])
def test_whatever_file_of_the_last_step_is_damaged_the_right_state_comes_back(tmp_path, harm, capsys):
  write(tmp_path / "good", 3, 6)
  fell_back = 0
  for number, path in enumerate(files(tmp_path / "good" / "6")):
    folder = tmp_path / str(number)
    subprocess.run(["cp", "-r", tmp_path / "good", folder], check=True)
    harm(folder / path.relative_to(tmp_path / "good"))
    (found, fed), _ = read(folder)
    said = capsys.readouterr().out
    step = int(found.step)
    assert step in (3, 6) and equal(found, state(step)) and fed == {"next": step}, path
    if step == 3:
      fell_back += 1
      assert "Damaged checkpoint of step 6 (" in said and said.strip().endswith("going on from step 3") and said.count("\n") == 1
      assert (folder / "6.damaged").is_dir() and not (folder / "6").exists()
      write(folder, 6)  # the step can be made again
      assert int(read(folder)[0][0].step) == 6
  assert fell_back >= 4  # the files that hold values; some of Orbax's are redundant


def test_where_every_step_is_damaged_one_line_says_so_and_nothing_is_touched(tmp_path):
  write(tmp_path, 3, 6)
  for step in ("3", "6"):
    (tmp_path / step / "run" / "metadata").write_text("{")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: step 6 \(.*; 3 \(.*remove the folder"):
    read(tmp_path)
  assert sorted(tmp_path.rglob("*")) == before


def test_no_checkpoint_to_keep_is_refused(tmp_path):
  with pytest.raises(ValueError, match="keep 1 or more"):
    checkpoint.Checkpoints(tmp_path, 0)


ROOT = pathlib.Path(__file__).parents[2]
OWNER = "import sys, time; from posynda_jax import locks; locks.take(sys.argv[1]); print('taken', flush=True); time.sleep(60)"


def test_a_folder_has_one_owner_and_a_dead_one_does_not_hold_it(tmp_path):
  runs.Run(tmp_path, {"seed": 0})
  runs.Run(tmp_path, {"seed": 0})  # the same process may
  other = subprocess.run([sys.executable, "-c", OWNER, tmp_path], cwd=ROOT, capture_output=True, text=True)
  assert f"is in use by process {os.getpid()} on {os.uname().nodename}" in other.stderr and not other.stdout
  free = tmp_path / "free"
  free.mkdir()
  owner = subprocess.Popen([sys.executable, "-c", OWNER, free], cwd=ROOT, stdout=subprocess.PIPE)
  assert owner.stdout.readline() == b"taken\n"
  with pytest.raises(ValueError, match=f"in use by process {owner.pid} on"):
    runs.Run(free, {"seed": 0})
  assert not (free / "config.json").exists()
  owner.kill()
  owner.wait()
  owner.stdout.close()
  runs.Run(free, {"seed": 0})


def test_rows_are_those_of_all_starts_and_a_step_made_again_counts_once(tmp_path):
  for values in ({2: 1.0, 4: 0.5}, {4: 0.25, 6: 0.125}):
    run = runs.Run(tmp_path, {"seed": 0})
    write = run.write_scalars("adapted")
    for step, value in values.items():
      write(step, {"loss": value, "grad_norm": 1.0})
    run.close()
  assert [(row["step"], row["loss"]) for row in runs.read_rows(tmp_path, "adapted")] == [(2, 1.0), (4, 0.25), (6, 0.125)]
  assert runs.read_rows(tmp_path, "ceiling") == []
  assert [json.loads(line)["command"] for line in (tmp_path / "commands.jsonl").read_text().splitlines()] == [sys.argv] * 2
