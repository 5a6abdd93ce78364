"""TensorBoard events and provenance of a run's folder."""

import io
import subprocess

import matplotlib.image
import numpy as np
import pytest

from posynda_jax.runtime import runs
from tests.visuals.test_run_page import RESULTS, make_run


def test_events_hold_the_same_scalars_figures_and_results(tmp_path):
  run = make_run(tmp_path / "run")
  run.write_results(RESULTS, 40)
  *_, last = sorted((run.folder / "events").iterdir())
  values = {value.tag: value for event in runs.read_events(last) for value in event.summary.value}
  image = values["figures/comparison"].image
  found = matplotlib.image.imread(io.BytesIO(image.encoded_image_string))[..., :3]
  np.testing.assert_array_equal(found, matplotlib.image.imread(run.folder / "figures" / "comparison.png")[..., :3])
  table = values["results/text_summary"].tensor.string_val[0].decode()
  assert table.splitlines()[3] == "| adapted | 115.0 | 57.5 | 75.0 | 12,345 | 0 | 1.5 |"
  assert runs.read_scalars(run.folder)["adapted/loss"] == pytest.approx({10: 0.2, 20: 0.1, 30: 2 / 30, 40: 0.05})


def test_a_resumed_run_counts_a_step_once_and_a_running_one_is_read_to_its_last_record(tmp_path):
  run = make_run(tmp_path / "run", steps=(10, 20))
  (path,) = (run.folder / "events").iterdir()
  whole = path.read_bytes()
  resumed = path.with_name("events.out.tfevents.9999999999.later")
  resumed.write_bytes(whole[:-5])  # its last record is not whole: grad_norm of step 20
  assert len(runs.read_events(resumed)) == len(runs.read_events(path)) - 1
  assert list(runs.read_scalars(run.folder)["adapted/loss"]) == [10, 20]
  resumed.write_bytes(whole[:40] + b"\xff" * 20 + whole[60:])
  with pytest.raises(ValueError, match="is damaged at byte"):
    runs.read_scalars(run.folder)


def test_a_run_knows_its_versions_and_a_commit_only_of_its_own_code(tmp_path, monkeypatch):
  subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
  monkeypatch.setattr(runs, "__file__", str(tmp_path / "runs.py"))  # installed inside somebody else's repository
  assert set(runs._provenance()) == {"versions"}
  monkeypatch.setattr(runs.shutil, "which", lambda name: None)
  assert set(runs._provenance()) == {"versions"}
