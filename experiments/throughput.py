"""How fast long videos are lifted end to end, beside the network's forward pass alone, and with how much memory.

    python -m experiments.throughput --frames=10000,100000 --json=docs/results/throughput.json

A planted walker's 2D is written as a file of each length, and `lift` runs on it in a process of its own, from the file
to the npz. The forward pass is the same compiled program on the same clips, with nothing read or written. Both are
timed in one run of this script. Seconds of the start (imports, weights, compilation or its cache) stand apart: they
are those of 100 frames. `--hypotheses=20 --sampling_steps=2 --select=bones` times twenty hypotheses in the same way.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from absl import flags

from posynda_jax.data import clips, tracks
from posynda_jax.evaluation import lifting, people
from posynda_jax.interop.keypoints import recordings
from posynda_jax.runtime.text import markdown_table

from . import common, results_file, sampling
from .bench import report

FRAMES = flags.DEFINE_list("frames", ["10000", "100000"], "Lengths of the videos.")
flags.declare_key_flag("json")
START, FPS, SIZE, FOCAL = 100, 60.0, (1920, 1080), 1450.0
BATCHES = 24  # of the timed forward pass, fewer of several hypotheses


def walker(num_frames: int) -> np.ndarray:
  """Keypoints [T 17 3] (px, score), Human3.6M-17 order, of a person who turns around and swings arms and legs."""
  phase = np.arange(num_frames) / FPS
  legs, arms = 0.35 * np.sin(2 * np.pi * phase), 0.3 * np.sin(2 * np.pi * phase + np.pi)
  joints = np.zeros((num_frames, 17, 3))  # x right, y down, z forward, m
  for side, hip in ((1, 1), (-1, 4)):
    joints[:, hip] = [-0.13 * side, 0, 0]
    for below, length in ((1, 0.43), (2, 0.86)):
      joints[:, hip + below, 0] = -0.14 * side
      joints[:, hip + below, 1], joints[:, hip + below, 2] = length * np.cos(legs), side * length * np.sin(legs)
  joints[:, 7:11, 1] = [-0.23, -0.48, -0.58, -0.7]
  for side, shoulder in ((1, 14), (-1, 11)):
    joints[:, shoulder] = [-0.17 * side, -0.45, 0]
    for below, length in ((1, 0.28), (2, 0.53)):
      joints[:, shoulder + below, 0] = -0.2 * side
      joints[:, shoulder + below, 1] = -0.45 + length * np.cos(arms)
      joints[:, shoulder + below, 2] = side * length * np.sin(arms)
  turn = 0.5 * phase[:, None]
  x, y, z = np.moveaxis(joints, -1, 0)
  x, z = x * np.cos(turn) - z * np.sin(turn), x * np.sin(turn) + z * np.cos(turn) + 4.5
  return np.stack([FOCAL * x / z + SIZE[0] / 2, FOCAL * y / z + SIZE[1] / 2, np.full_like(x, 0.9)], -1)


def lift(folder: pathlib.Path, num_frames: int) -> tuple[float, float]:
  """(seconds, peak resident MiB) of a process that lifts a video of that length."""
  np.save(folder / "walker.npy", walker(num_frames).astype(np.float32))
  command = [
      sys.executable, "-m", f"{__package__}.lift", f"--keypoints={folder / 'walker.npy'}", "--layout=h36m17",
      f"--resolution={SIZE[0]}x{SIZE[1]}", f"--fps={FPS:g}",
      f"--intrinsics={FOCAL},{FOCAL},{SIZE[0] / 2},{SIZE[1] / 2}", f"--output={folder / 'lifted.npz'}",
      f"--base={common.BASE.value}", f"--batch={sampling.BATCH.value}", f"--hypotheses={sampling.HYPOTHESES.value}",
      f"--sampling_steps={sampling.SAMPLING_STEPS.value}", f"--select={sampling.SELECT.value}"]
  began = time.perf_counter()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  _, status, used = os.wait4(process.pid, 0)
  if status:
    raise ValueError(f"lift of {num_frames:,} frames ended with {status}: see above")
  return time.perf_counter() - began, used.ru_maxrss / 1024


def forward_rate() -> float:
  """Frames a second of the compiled program alone, on full batches of the walker's clips."""
  weights = sampling.load_weights()
  config = sampling.config(weights)
  base, program = weights.base, lifting.make_lifter(weights.make_doubting, config)
  batches_timed = max(BATCHES // config.num_hypotheses, 1)
  num_frames = 4 * batches_timed * config.batch_size * base.model.num_frames
  options = recordings.Options(resolution=SIZE, fps=FPS, layout="h36m17")
  record = recordings.from_array(walker(num_frames), options).record
  source = clips.ClipSource(tracks.make_tracks([record], tracks.UNLABELLED, base.clip_fps), base.model.num_frames)
  if program.observe:
    source = people.measure(program.observe, weights.params, weights.measured, source, config.batch_size)
  starts = range(0, batches_timed * config.batch_size, config.batch_size)
  batches = [jax.device_put(source.take(range(first, first + config.batch_size))) for first in starts]
  jax.block_until_ready(program.run(weights.params, weights.measured, batches[0]))
  began = time.perf_counter()
  for batch in batches:
    jax.block_until_ready(program.run(weights.params, weights.measured, batch))
  frames = batches_timed * config.batch_size * base.model.num_frames
  return frames / (time.perf_counter() - began)


def main() -> None:
  rows = []
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    lift(folder, START)  # compiles, where nothing is cached
    start, _ = lift(folder, START)
    forward = forward_rate()
    for num_frames in map(int, FRAMES.value):
      seconds, peak = lift(folder, num_frames)
      rate = (num_frames - START) / (seconds - start)
      rows.append({"frames": num_frames, "seconds": seconds, "peak_mib": peak, "frames_per_second": rate,
                   "of_forward": rate / forward})
      print(f"{num_frames:,} frames: {seconds:.1f} s", flush=True)
  print(markdown_table(["frames", "s, end to end", "frames a second", "of the forward's rate", "peak memory, MiB"], [
      [f"{row['frames']:,}", f"{row['seconds']:.1f}", f"{row['frames_per_second']:,.0f}", f"{row['of_forward']:.2f}",
       f"{row['peak_mib']:,.0f}"] for row in rows]))
  print(f"Start: {start:.1f} s; forward pass alone: {forward:,.0f} frames a second")
  results_file.write({"machine": report.machine(jax.devices()[0].device_kind), "base": common.BASE.value,
                      "start_seconds": start, "forward_frames_per_second": forward, "rows": rows})


if __name__ == "__main__":
  common.run(main)
