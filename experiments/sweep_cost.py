"""What `adapt --sweep` costs beside separate runs: whole commands, from start-up to the last figure, in turn on an idle machine.

    python -m experiments.sweep_cost --name=embedded --json=docs/results/sweep.json --workdir=runs/cost \\
        --base=runs/embedded/base --flagfile=experiments/presets/embedded.flags --updates=100 --clips=4

Every flag but those below goes to `adapt`. One update of each kind comes first and is not counted, so that datasets are built and
compiled programs cached for both. Members differ in their seed. Adds to the file, under `name`, the seconds and their ratio.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import flags

from experiments import adapt as _, common  # noqa: F401  adapt's flags, which are passed on
from posynda_jax import runs

NAME = flags.DEFINE_string("name", None, "What the measurement is called in the file.")
JSON = flags.DEFINE_string("json", None, "The file.")
MEMBERS = flags.DEFINE_integer("members", 8, "K, members of the sweep.", lower_bound=2)
SINGLES = flags.DEFINE_integer("singles", 4, "Separate runs timed, before and after the sweep: K of them are K times their mean.",
                               lower_bound=2)


def main() -> None:
  if None in (NAME.value, JSON.value):
    raise ValueError("--name and --json are needed: what the measurement is called, and where to put it")
  sweep = f"--sweep=seed={','.join(map(str, range(MEMBERS.value)))}"
  _time(sweep, "--updates=1")
  _time("--seed=0", "--updates=1")
  separate = [_time(f"--seed={seed}") for seed in range(SINGLES.value // 2)]
  together = _time(sweep)
  separate += [_time(f"--seed={seed}") for seed in range(SINGLES.value // 2, SINGLES.value)]
  eight = MEMBERS.value * sum(separate) / len(separate)
  result = {
      "members": MEMBERS.value, "command": _flags(), "sweep_seconds": together, "single_seconds": separate,
      "ratio_to_separate_runs": together / eight,
  }
  path = pathlib.Path(JSON.value)
  runs.write_json(path, (json.loads(path.read_text()) if path.exists() else {}) | {NAME.value: result})
  print(f"{NAME.value}: {MEMBERS.value} members {together:.1f} s, one run {eight / MEMBERS.value:.1f} s, ratio {together / eight:.2f}")


def _flags() -> list[str]:
  """The arguments that go to `adapt`."""
  mine = ("name", "json", "members", "singles", "workdir")
  return [one for one in sys.argv[1:] if one.lstrip("-").partition("=")[0] not in mine]


def _time(*changes: str) -> float:
  """Wall seconds of `adapt` with these flags, in a folder of its own."""
  with tempfile.TemporaryDirectory(dir=common.WORKDIR.value) as folder:
    command = [sys.executable, "-m", "experiments.adapt", *_flags(), *changes, f"--workdir={folder}/run"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
      raise ValueError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - started


if __name__ == "__main__":
  common.run(main)
