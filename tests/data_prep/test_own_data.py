"""README's section "Your data": its commands run, line by line, on files written in the official formats."""

import json
import pathlib
import re
import shlex

import numpy as np
import pytest

from posynda_jax.adaptation import bases
from posynda_jax.datasets import load
from posynda_jax.datasets.mpi_inf_3dhp import tables
from tests import ROOT, scene
from tests.datasets import dummy_human36m as h36m
from tests.datasets import dummy_mpi_inf_3dhp as dhp
from tests.datasets import dummy_threedpw as threedpw
from tests.datasets.planted import run_module

PRESETS = ROOT / "experiments" / "presets"
# What makes a run small; README's own flags come after it and win.
SMALL = {
    "experiments.pretrain": [f"--flagfile={PRESETS}/smoke_base.flags", "--eval_split=S9[:5%]"],
    "experiments.adapt": ["--base=small", "--clips=8", "--updates=6", "--rank=2", "--test_split=S5[:5%]"],
}


def commands(title: str) -> list[list[str]]:
  """The commands of the fence under README's heading `title` within "Your data"."""
  section = (ROOT / "README.md").read_text().partition("\n## Your data\n")[2].partition("\n## ")[0]
  block = re.search(rf"### {re.escape(title)}\n.*?```\n(.+?)\n```", section, re.S)[1]
  return [shlex.split(line) for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def run_all(title: str, places: dict[str, str], data_dir) -> list[str]:
  """Runs the commands with README's capital words replaced; returns what each printed."""
  printed = []
  for words in commands(title):
    assert words[:2] == ["python", "-m"]
    module, flags = words[2], words[3:]
    flags = [re.sub("|".join(places), lambda found: places[found[0]], flag) for flag in flags]
    if module.startswith("experiments.") and "visualize" not in module:
      flags.append(f"--data_dir={data_dir}")
    printed.append(run_module(module, *SMALL.get(module, []), *flags).stdout)
  return printed


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp("datasets")


@pytest.fixture(scope="module")
def h36m_runs(tmp_path_factory, data_dir):
  """Human3.6M's commands, run on an official archive of seven subjects: (folder of runs, what each printed)."""
  folder = tmp_path_factory.mktemp("h36m")
  h36m.write_cdf(folder / "downloads", h36m.make_truth())
  places = {"DOWNLOADS": f"{folder}/downloads", "MANUAL_DIR": f"{folder}/manual", "runs/": f"{folder}/runs/"}
  return folder / "runs", run_all("Human3.6M", places, data_dir)


def test_human36m_from_the_official_archive_to_the_papers_transfer(h36m_runs, data_dir):
  folder, printed = h36m_runs
  assert "No fault found" in printed[0] and "S11" in printed[1]
  base = json.loads((folder / "base_s1" / "metrics.json").read_text())
  scored = load.load("human36m/gt", "S9[:5%]", data_dir=data_dir)
  assert base["base"]["frames"] == sum(len(r["valid"]) for r in scored) and 100 < base["base"]["mpjpe_mm"] < 2000
  row = json.loads((folder / "s1_to_s5678" / "evaluations.jsonl").read_text().splitlines()[-1])
  assert row["protocol"]["protocol"] == "h36m_s1_to_s5678" and row["missing"] == [] and row["counts"]["action"] == 15
  assert "paper  Table 1, source S1: MPJPE 48.1" in printed[-1] and "headline" in printed[-1]


def test_mpi_inf_3dhp_from_the_test_set_to_its_scores(h36m_runs, data_dir, tmp_path):
  for sequence in tables.TEST:
    dhp.write_test(tmp_path / "downloads", sequence)
  places = {"DOWNLOADS": f"{tmp_path}/downloads", "MANUAL_DIR": f"{tmp_path}/manual", "RUN": f"{h36m_runs[0]}/base_s1"}
  printed = run_all("MPI-INF-3DHP", places, data_dir)
  row = json.loads((h36m_runs[0] / "base_s1" / "evaluations.jsonl").read_text().splitlines()[-1])
  assert row["counts"]["sequence"] == 6 and row["counts"]["frames"] == sum(valid for _, valid in tables.TEST.values())
  assert {"mpjpe_17_mm", "pck_percent", "auc_percent"} <= set(row["result"]) and "paper" in printed[-1]


def test_threedpw_from_sequence_files_to_its_scores(h36m_runs, data_dir, tmp_path):
  threedpw.write(tmp_path / "downloads")
  places = {"DOWNLOADS": f"{tmp_path}/downloads", "MANUAL_DIR": f"{tmp_path}/manual", "RUN": f"{h36m_runs[0]}/base_s1"}
  printed = run_all("3DPW", places, data_dir)
  assert "MPJPE" in printed[-1] and "threedpw/approx_gt test" in printed[-1]


def test_your_own_video_becomes_poses_a_page_and_an_adapted_run(data_dir, tmp_path):
  """The detector's models are not here: its 2D lies where an earlier call would have kept it."""
  av = pytest.importorskip("av", reason="av is not installed: pip install -r requirements.txt")
  motion = scene.motion(40) * [1, -1, 1] + [0, 1, 4]  # camera frame: y down, 4 m away
  points = (motion[..., :2] / motion[..., 2:] * 250 + [160, 90]).astype(np.float32)
  points = points[:, [0] * 5 + [11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3]]
  kept = {"keypoints": points, "scores": np.full((40, 17), 0.9), "resolution": np.array([320, 180]), "fps": 30.0}
  for name in ("walk_2d.npz", "runs/walk_2d.npz"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    np.savez(tmp_path / name, **kept)
  with av.open(str(tmp_path / "walk.mp4"), "w") as container:
    stream = container.add_stream("mpeg4", rate=30)
    stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
    for t in range(40):
      container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((180, 320, 3), 5 * t, np.uint8), format="rgb24")))
    container.mux(stream.encode())
  places = {"walk": f"{tmp_path}/walk", "runs/": f"{tmp_path}/runs/"}
  printed = run_all("Your own video", places, data_dir)
  lifted = np.load(tmp_path / "walk.npz")
  assert lifted["pose_camera_m"].shape == (40, 17, 3) and "warning" in printed[0] and "Trusted: " in printed[0]
  assert (tmp_path / "walk.png").exists() and "image/jpeg" in (tmp_path / "walk.html").read_text()
  assert "Source-free" in printed[2] and "Guard: " in printed[2] and "reprojection" in printed[2]
  metadata = json.loads(str(lifted["metadata"]))
  assert metadata["run"] == bases.DEFAULT and metadata["base"] == bases.load(bases.DEFAULT).digest


def test_a_download_with_a_fault_ends_the_check_with_an_error_code(tmp_path):
  threedpw.write(tmp_path)
  broken = next((tmp_path / "sequenceFiles" / "train").iterdir())
  broken.write_bytes(broken.read_bytes()[:200])
  done = run_module("data_prep.check", "--dataset=threedpw", f"--path={tmp_path}", returncode=1)
  assert "Traceback" not in done.stderr
  fault = next(line for line in done.stdout.splitlines() if line.startswith("fault") and broken.name in line)
  assert "->" in fault and "1 fault" in done.stdout
