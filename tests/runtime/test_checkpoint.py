"""What a checkpoint holds and refuses, for each kind of damage. Whole processes are killed in test_faults.py."""

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posynda_jax.data import clips, tracks
from posynda_jax.runtime import checkpoint, loop
from tests.data.test_tracks import record
from tests.runtime.toy import Feed, State

IDENTITY = {"seed": 0, "data": {"target": {"clips": 7, "digest": "aa"}}}


def state(step: int) -> State:
  weights, *moments = jnp.asarray(np.random.default_rng(step).normal(size=(3, 40, 30)), jnp.float32)
  return State(jnp.int32(step), {"weights": weights, "moments": tuple(moments)})


def write(folder, *steps: int) -> None:
  checkpoints = checkpoint.Checkpoints(folder, 2, IDENTITY)
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
  (found, feed_state), checkpoints = read(tmp_path)
  assert equal(found, state(9)) and feed_state == {"next": 9} and 0 < checkpoints.seconds < 60
  assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "9"]  # keep = 2
  feed = Feed()
  resumed = loop.resume(checkpoint.Checkpoints(tmp_path, 2, IDENTITY), state(0), feed)
  assert int(resumed.step) == 9 and feed.next == 9


def test_a_copy_is_saved_and_later_steps_do_not_change_it(tmp_path):
  step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 2, tree), donate_argnums=0)
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


def test_one_changed_number_changes_the_description_of_data():
  def describe(*records: dict) -> dict:
    source = clips.ClipSource(tracks.make_tracks(records, tracks.UNLABELLED, 50.0), 9)
    return checkpoint.describe_data({"target": source})["target"]

  first, run, other = describe(record(47), record(20, name="run")), record(20, name="run"), record(47)
  other["keypoints_px"] = other["keypoints_px"].copy()
  other["keypoints_px"][11, 3, 0] += 0.5
  changed = describe(other, run)
  assert first == describe(record(47), run) and changed != first
  assert changed["clips"] == first["clips"] != describe(record(47))["clips"]


def truncate(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: pathlib.Path) -> None:
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, pathlib.Path.unlink])
def test_whatever_file_of_the_last_step_is_damaged_a_right_state_comes_back(tmp_path, damage, capsys):
  good, steps = tmp_path / "good", []
  write(good, 3, 6)
  for number, path in enumerate(sorted(path for path in (good / "6").rglob("*") if path.is_file())):
    folder = tmp_path / str(number)
    shutil.copytree(good, folder)
    damage(folder / path.relative_to(good))
    (found, feed_state), _ = read(folder)
    printed, step = capsys.readouterr().out, int(found.step)
    steps.append(step)
    assert step in (3, 6) and equal(found, state(step)) and feed_state == {"next": step}, path
    if step == 3:
      assert printed.startswith("Damaged checkpoint of step 6 (") and printed.endswith("going on from step 3\n")
      assert printed.count("\n") == 1 and (folder / "6.damaged").is_dir() and not (folder / "6").exists()
  assert steps.count(3) >= 4  # the files that hold values; some of Orbax's are redundant
  write(tmp_path / str(steps.index(3)), 6)  # the step can be made again
  assert int(read(tmp_path / str(steps.index(3)))[0][0].step) == 6


def test_if_every_step_is_damaged_one_line_says_so_and_no_file_changes(tmp_path):
  write(tmp_path, 3, 6)
  for step in ("3", "6"):
    (tmp_path / step / "run" / "metadata").write_text("{")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: step 6 \(.*; 3 \(.*remove the folder"):
    read(tmp_path)
  assert sorted(tmp_path.rglob("*")) == before


def test_keeping_no_checkpoint_is_refused(tmp_path):
  with pytest.raises(ValueError, match="keep 1 or more"):
    checkpoint.Checkpoints(tmp_path, 0)
