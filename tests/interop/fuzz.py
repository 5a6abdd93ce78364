"""Mutated files of every kind, through every reader of strangers' files: no traceback, no hang, no memory filled.

    keypoint files, weights, lifted poses, videos, motion capture, archives and annotations of datasets

    python -m tests.interop.fuzz --files=2000 --seed=0 --out=fuzz.json

A seeded mutation of a right file of each format: bytes flipped, cut, repeated, moved, or replaced by numbers that break
things. Each file is read in a worker process with a bound on its memory. Right ends are an answer and a ValueError or
FileNotFoundError of one line; all others are kept beside --out and are counted. A file that found something becomes a
test.
"""

import argparse
import collections
import json
import multiprocessing
import pathlib
import random
import resource
import shutil
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator

import numpy as np
import scipy.io
from safetensors.numpy import save_file

from posynda_jax.adaptation import tensors_file
from posynda_jax.datasets.human36m import archives as human36m_archives
from posynda_jax.datasets.human36m import files as human36m_files
from posynda_jax.datasets.mocap import archives, asf_amc, bvh
from posynda_jax.datasets.mpi_inf_3dhp import raw
from posynda_jax.datasets.threedpw import sequence_file, smpl
from posynda_jax.interop import torch_file
from posynda_jax.interop.keypoints import recordings
from posynda_jax.interop.video import blazepose, models, reader
from posynda_jax.visuals import pose_sequence
from tests.datasets import dummy_human36m as human36m
from tests.datasets import dummy_mpi_inf_3dhp as mpi_inf_3dhp
from tests.datasets import dummy_threedpw as threedpw
from tests.datasets.test_mocap import ASF, BVH
from tests.interop import keypoint_formats, test_video
from tests.interop.detector_files import detect

SECONDS, MEMORY_BYTES = 10.0, 2 << 30  # of one file, beyond what the reading process has before
EVIL = (  # texts that break naive readers
    b"NaN", b"1e999", b"-1", b"99999999999999999999", b"null", b"[]", b"{}", b'""', b"\x00", b"\xff\xfe", b"[" * 3000,
    b'{"a":' * 500, b"-0.0", b"1e-320", b"true", b"\r\n", b",,,,", b"\xef\xbb\xbf",
)
EVIL_NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)


def mutate(data: bytes, rng: random.Random) -> bytes:
  """The bytes with one to three changes: bits flipped, bytes cut, repeated, moved, or replaced by evil ones."""
  for _ in range(rng.choice((1, 1, 1, 2, 3))):
    at, other, length = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1), rng.choice((1, 2, 8, 64, 1024))
    part, size = data[at : at + length], rng.choice((2, 4, 8))
    number = (rng.choice(EVIL_NUMBERS) & (256**size - 1)).to_bytes(size, rng.choice(("little", "big")))
    replaced, new = rng.choice((
        (part, bytes(byte ^ (1 << rng.randrange(8)) for byte in part[:8]) + part[8:]), (data[at:], b""), (part, b""),
        (b"", part * rng.randint(1, 20)), (b"", data[other : other + length]), (part, rng.choice(EVIL)),
        (b"", rng.choice(EVIL)), (data[at : at + size], number)))
    data = data[:at] + new + data[at + len(replaced) :]
  return data or b"\n"


def seeds(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
  """name -> (a right file or folder, the reader of READERS)."""
  found = {}
  for name in keypoint_formats.FORMATS:
    found[name] = keypoint_formats.write(name, folder / name, detect(6)), "keypoints"
  weights = pathlib.Path(tensors_file.__file__).parent / "weights" / "small.safetensors"
  found["base"] = pathlib.Path(shutil.copy(weights, folder / "base.safetensors")), "base"
  save_file({"a": np.ones((2, 3), np.float32)}, folder / "other.safetensors")
  found["other_tensors"] = folder / "other.safetensors", "adapter"
  torch_file.save_torch(folder / "model.bin", {"model_pos": {"a.weight": np.ones((4, 4), np.float32)}, "epoch": 3})
  found["torch"] = folder / "model.bin", "torch"
  np.savez(
      folder / "lifted.npz", pose_root_m=np.zeros((3, 17, 3)), frame=np.arange(3), keypoints_px=np.zeros((3, 17, 2)),
      confidence=np.ones((3, 17)), intrinsics=np.ones(9), resolution=np.ones(2), detected=np.ones(3, bool), fps=25.0,
      metadata=json.dumps({"path": "walk.json", "untrusted": [{"first": 0, "last": 1, "why": "one frame only"}]}))
  found["lifted"] = folder / "lifted.npz", "lifted"
  (folder / "walk.bvh").write_text(BVH)
  found["bvh"] = folder / "walk.bvh", "bvh"
  (folder / "walk.asf").write_text(ASF)
  found["asf"] = folder / "walk.asf", "asf"
  return found | _datasets(folder) | _videos(folder)


def _datasets(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
  found = {}
  (folder / "mocap").mkdir()
  with zipfile.ZipFile(folder / "mocap" / "cmu.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("cmu/01/01.asf", ASF)
    archive.writestr("cmu/01/readme.txt", "text " * 100)
  found["mocap_zip"] = folder / "mocap", "mocap_zip"
  truth = {"S1": {"Walking": human36m.make_truth()["S1"]["Directions 1"]}}
  human36m.write_3d(folder, truth)
  human36m.write_2d(folder, truth, "gt")
  human36m.write_cdf(folder, truth)
  found["h36m_3d"] = folder / human36m_files.FILE_3D, "h36m_3d"
  found["h36m_2d"] = folder / "data_2d_h36m_gt.npz", "h36m_2d"
  found["h36m_cdf"] = next(folder.rglob("*.cdf")), "h36m_cdf"
  mpi_inf_3dhp.write_test(folder / "3dhp_test", "TS1")
  found["3dhp_hdf5"] = folder / "3dhp_test" / "TS1" / "annot_data.mat", "3dhp_hdf5"
  cells = {name: np.empty((14, 1), object) for name in ("annot2", "annot3")}
  for name, columns in (("annot2", 56), ("annot3", 84)):
    cells[name][:, 0] = [np.ones((3, columns))] * 14
  (folder / "3dhp_train").mkdir()
  scipy.io.savemat(folder / "3dhp_train" / "annot.mat", cells | {"cameras": np.arange(14)[None]}, do_compression=True)
  blocks = (mpi_inf_3dhp.CALIBRATION.format(i, 1000.0, 1000.0, 512.0, 512.0) for i in range(14))
  calibration = "Skeletool Camera Calibration File V1.0\n" + "".join(blocks)
  (folder / "3dhp_train" / "camera.calibration").write_text(calibration)
  found["3dhp_matlab"] = folder / "3dhp_train", "3dhp_matlab"
  threedpw.write(folder / "3dpw", threedpw.SPECS[:1])
  threedpw.write_smpl(folder)
  found["3dpw"] = next((folder / "3dpw").rglob("*.pkl")), "3dpw"
  found["smpl"] = folder / "smpl" / "SMPL_MALE.npz", "smpl"
  found["regressor"] = folder / "smpl" / "J_regressor_h36m.npy", "regressor"
  return found


def _videos(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, str]]:
  with zipfile.ZipFile(folder / "models.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
    for name in models.NAMES:
      wheel.writestr(f"mediapipe/modules/{name}", b"TFL3" * 200)
  test_video.write(folder / "clip.mp4", range(6))
  return {"models": (folder / "models.whl", "models"), "video": (folder / "clip.mp4", "video")}


def _keypoints(path):
  return recordings.read(path, recordings.Options(resolution=(1920.0, 1080.0), fps=25.0))


def _mocap_zip(path):
  with archives.open_archive(path, "cmu") as archive:
    for member in archive.members:
      archive.read(member)


READERS = {
    "keypoints": _keypoints, "base": tensors_file.load_base, "torch": torch_file.load_torch,
    "adapter": lambda path: tensors_file.load_adapter(path, "digest"), "lifted": pose_sequence.read_lifted,
    "bvh": lambda path: bvh.parse_bvh(path.read_text(errors="replace")),
    "asf": lambda path: asf_amc.parse_asf(path.read_text(errors="replace")),
    "mocap_zip": _mocap_zip, "h36m_3d": human36m_files.read_3d, "h36m_2d": human36m_files.read_2d,
    "h36m_cdf": lambda path: list(human36m_archives.read_takes(path, "S1")),
    "3dhp_hdf5": lambda path: list(raw.read_test(path, "TS1")),
    "3dhp_matlab": lambda path: list(raw.read_train(path / "annot.mat", "S1/Seq1", (0,))),
    "3dpw": lambda path: sequence_file.parse(path.read_bytes(), path.name), "smpl": smpl.load_model,
    "regressor": smpl.load_regressor, "models": models.read_models,
    "tflite": lambda path: blazepose._load(path, 1),
    "video": lambda path: (reader.probe(path), list(reader.frames(path))),
}


def read(kind: str, path: pathlib.Path) -> tuple[str, str, float]:
  """(How the reading of a file ended, its text, seconds)."""
  end, text, started = "read", "", time.monotonic()
  try:
    READERS[kind](path)
  except (ValueError, FileNotFoundError) as error:
    text = str(error)
    end = "refused" if "\n" not in text else "refused in several lines"
  except MemoryError:
    end, text = "out of memory", traceback.format_exc()
  except BaseException:
    end, text = "traceback", traceback.format_exc()
  return end, text, time.monotonic() - started


def _worker(pipe) -> None:
  """Reads the files that come through the pipe, with a bound on this process's memory."""
  own = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
  resource.setrlimit(resource.RLIMIT_AS, (own + MEMORY_BYTES,) * 2)
  pipe.send("started")  # everything is imported
  while True:
    try:
      pipe.send(read(*pipe.recv()))
    except EOFError:  # the parent has ended
      return


class Worker:
  """A process that reads files, started anew where a file killed it."""

  def __init__(self):
    self._process = None

  def read(self, kind: str, path: pathlib.Path) -> tuple[str, str, float]:
    """As `read`, of files that may also kill the process or take longer than SECONDS."""
    if self._process is None:
      context = multiprocessing.get_context("spawn")  # a fork would hold the parent's memory and threads
      self._pipe, other = context.Pipe()
      self._process = context.Process(target=_worker, args=(other,), daemon=True)
      self._process.start()
      other.close()
      self._pipe.recv()
    self._pipe.send((kind, path))
    try:
      if self._pipe.poll(SECONDS):
        return self._pipe.recv()
      end = ("too slow", "", SECONDS)
    except EOFError:
      end = ("killed", "", 0.0)
    self._process.kill()
    self._process.join()
    self._process = None
    return end


def count(cases: Iterator[tuple[str, str, pathlib.Path]], read: Callable, keep: pathlib.Path | None = None) -> dict:
  """Reads each of (name, kind, file or folder), then removes it: {"files", "ends", "slowest_seconds", "formats": ends
  by name up to its colon, "wrong"}. Files with a wrong end are moved to `keep`.
  """
  wrong, slowest = [], 0.0
  counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
  for name, kind, path in cases:
    end, text, seconds = read(kind, path)
    counts[name.partition(":")[0]][end] += 1
    slowest = max(slowest, seconds)
    if end not in ("read", "refused"):
      wrong.append({"file": path.name, "name": name, "end": end, "text": text[-600:]})
      print(f"{name}, {path.name}: {end}\n{text[-600:]}", flush=True)
      if keep:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.move(path, keep / f"{len(wrong)}_{path.name}")
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
  ends = sum(counts.values(), collections.Counter())
  return {"files": ends.total(), "ends": dict(ends), "slowest_seconds": round(slowest, 2),
          "formats": {name: dict(its) for name, its in counts.items()}, "wrong": wrong}


def mutated(num_files: int, seed: int, folder: pathlib.Path) -> Iterator[tuple[str, str, pathlib.Path]]:
  """Cases of `count`: right files and folders, each with one mutated file, written to `folder` one after the other."""
  rng = random.Random(seed)
  (folder / "right").mkdir(parents=True)
  right = seeds(folder / "right")
  for number in range(num_files):
    name = list(right)[number % len(right)]
    path, reader = right[name]
    target = folder / f"{number}_{path.name}"
    (shutil.copytree if path.is_dir() else shutil.copy)(path, target)
    one = rng.choice(sorted(target.iterdir())) if target.is_dir() else target
    one.write_bytes(mutate(one.read_bytes(), rng))
    yield name, reader, target


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--files", type=int, default=2000)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("fuzz.json"))
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    cases = mutated(args.files, args.seed, pathlib.Path(folder))
    found = {"seed": args.seed} | count(cases, Worker().read, args.out.with_suffix(""))
  args.out.write_text(json.dumps(found, indent=1) + "\n")
  print(f"{args.files:,} files: {found['ends']}, slowest {found['slowest_seconds']} s")


if __name__ == "__main__":
  main()
