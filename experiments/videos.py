"""Test-time adaptation: each of a few videos adapts the base by itself, to its own 2D and camera, and is then scored beside the bare base.

    python -m experiments.videos --videos=8 --flagfile=experiments/presets/free.flags --updates=100 --target=hdm05_mocap/wild_rig_detected \\
        --target_split=test --manual_dir=DIR --workdir=runs/videos

The videos are records of --target_split, evenly spaced. WORKDIR/video_INDEX is an ordinary run of `adapt` on one of them (for `lift --run`,
`visualize --run`); a second start goes on where the first ended. WORKDIR/videos.json holds every video's errors and, of all frames
together, the means. For a video of your own, which has no labels, `adapt --target=keypoints:FILE` is the command.
"""

import json
import pathlib

import jax
import numpy as np
from absl import flags
from absl.testing import flagsaver

from experiments import adapt as script
from experiments import common, own_keypoints
from posynda_jax.runtime import parallel, runs

VIDEOS = flags.DEFINE_integer("videos", 8, "How many videos of --target_split.", lower_bound=1)
SCORES = ("mpjpe_mm", "p_mpjpe_mm")


def adapt_to(base, base_folder: str, source, config, folder: pathlib.Path) -> dict:
  """{"source_only", "adapted", "protocol"} of the flags' target, from the folder of its run where it has been finished."""
  run = runs.Run(folder, script.identify(base, base_folder, config))
  path = folder / "metrics.json"
  if not path.exists():
    task = script.make_task(base, source, config, script.open_test(base, script.TARGET.value, script.TEST_SPLIT.value))
    adapter, seconds = script.train_adapter(task, config, run, "adapted")
    fresh = jax.tree.map(jax.numpy.zeros_like, adapter)
    script.write_results(run, task, config, {
        "source_only": task.rate(fresh, own=True),
        "adapted": script.fitted(task, config, run, "adapted").rate(adapter) | {"seconds": seconds},
    })
  run.close()
  return json.loads(path.read_text())


def main() -> None:
  if common.WORKDIR.value is None:
    raise ValueError("--workdir is not given: name a folder for the videos' runs")
  folder = pathlib.Path(common.WORKDIR.value).expanduser()
  target, split = script.TARGET.value, script.TARGET_SPLIT.value
  if own_keypoints.is_own(target):
    raise ValueError(f"{target} has no labels to be scored by: adapt to it with `python -m experiments.adapt`")
  if "[" in split or "+" in split:
    raise ValueError(f"--target_split={split} is a part or a sum: name a whole split, of which --videos are taken")
  common.check_batch(script.CLIPS.value, "clips")
  common.print_devices()
  base, base_folder = script.load_base()
  source = script.load_source(base)
  config = script.adapt_config(base, source)
  records = common.load_records(target, split)
  videos = []
  for index in np.unique(np.linspace(0, len(records) - 1, VIDEOS.value).astype(int)):
    alone = f"{split}[{index}:{index + 1}]"
    with flagsaver.flagsaver(target_split=alone, test_split=alone):
      found = adapt_to(base, base_folder, source, config, folder / f"video_{index:04d}")
    before, after = found["source_only"], found["adapted"]
    videos.append({"sequence": records[index]["sequence"], "split": alone, "source_only": before, "adapted": after})
    print(f"{videos[-1]['sequence']}, {alone}: {before['mpjpe_mm']:.1f} -> {after['mpjpe_mm']:.1f} mm, {after['seconds']:.0f} s", flush=True)
  frames = [video["adapted"]["frames"] for video in videos]
  means = {
      row: {score: float(np.average([video[row][score] for video in videos], weights=frames)) for score in SCORES}
      for row in ("source_only", "adapted")
  }
  better = sum(video["adapted"]["mpjpe_mm"] < video["source_only"]["mpjpe_mm"] for video in videos)
  protocol = found["protocol"] | {"split": f"{len(videos)} of {split}", "adapted_on": "each video's own 2D and intrinsics"}
  result = {**means, "better": better, "frames": sum(frames), "videos": videos, "updates": config.num_steps, "base": base.digest, "protocol": protocol}
  if parallel.is_main():
    runs.write_json(folder / "videos.json", result)
  line = lambda row: ", ".join(f"{name} {value:.1f}" for name, value in means[row].items())
  print(f"\n{len(videos)} videos, {sum(frames):,} frames: source-only {line('source_only')}; adapted {line('adapted')}; {better} of {len(videos)} are better")
  print("protocol: " + ", ".join(f"{name}={value}" for name, value in protocol.items()), flush=True)


if __name__ == "__main__":
  common.run(main)
