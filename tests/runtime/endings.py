"""A thousand endings: tiny jobs of all kinds are killed, stopped, starved and damaged, and must end as unbroken ones.

    python -m tests.runtime.endings --folder=runs/endings --endings=1000 --seed=1 --log=docs/results/endings.jsonl \\
        --json=docs/results/endings.json

A run of a job meets one to six faults, one a start. Then it is started without a fault, and all that it ended with is
compared, bit for bit, with the unbroken run. A log (--log, else FOLDER/endings.jsonl) holds a line a run: the script
can be stopped at any moment, and goes on after the last line, with the committed log on any machine. Random numbers
depend on --seed and the run's number alone. The work folder is a disk of its own (tmpfs) where the user may mount one;
elsewhere "full disk" and "read-only disk" are left out.

A fault's outcome is `ended` (as that fault may end a start: killed, stopped with exit 0, or one line and exit 1),
`unharmed` (the start ended well all the same), `too late` (it had ended before the fault; not counted), or `WRONG`. A
run's outcome is `same`, `DIFFERENT` or `LOST` (it does not end any more). The script exits with 1 after any of the
three in capitals.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from posynda_jax.runtime.text import markdown_table
from tests import ROOT
from tests.runtime.starts import Start, is_saving
from tests.runtime.tiny_jobs import Job, ended_with, make_jobs

DISK_MIB = 192
MOST_FAULTS = 6  # of one run
WAIT_SECONDS = 300  # for a start that should end by itself

ENDING = (
    "kill", "kill in a save", "SIGTERM", "full disk", "read-only disk", "folder vanishes", "stall", "second owner")
BETWEEN = ("flipped byte", "truncated file", "clock jumps")  # what a stopped run's files meet, after a kill
WEIGHTS = (4, 4, 3, 1, 1, 1, 1, 1, 2, 2, 1)
FAULTS = ENDING + BETWEEN


def phase_of(work: pathlib.Path) -> str:
  """What a run was doing, as its folder tells."""
  if is_saving(work, "**/*"):
    return "in a save"
  if not any(path.name.isdigit() for path in work.glob("**/checkpoints/**/*")):
    return "before the first save"
  return "after a training" if any(True for _ in work.rglob("adapted")) else "between saves"


def wait_until(sign, started: list[Start], seconds: float) -> bool:
  """Whether `sign()` came true while a process of the start still ran."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    if all(one.process.poll() is not None for one in started):
      return False
    if sign():
      return True
    time.sleep(0.0005)
  return False


def strike(
    fault: str, started: list[Start], work: pathlib.Path, rng: random.Random, restart, shares: bool
) -> tuple[str, str] | None:
  """Lets a start meet a fault: (phase, outcome); None where the start had ended before.

  `restart` starts the same command again beside it, which `shares` the work with it or is refused.
  """
  def is_over():
    return all(one.process.poll() is not None for one in started)

  if fault == "kill in a save":
    if not wait_until(lambda: phase_of(work) == "in a save", started, WAIT_SECONDS):
      return None
    time.sleep(rng.uniform(0, 0.02))
  if is_over():
    return None
  phase = phase_of(work)
  disk, gone = work.parent, work.with_name("gone")
  if fault in ("kill", "kill in a save", *BETWEEN):
    rng.choice(started).process.kill()  # a process that loses its peer ends by itself
    codes = [one.process.wait(WAIT_SECONDS) for one in started]
    return phase, "ended" if -signal.SIGKILL in codes else "unharmed"
  if fault == "SIGTERM":
    for one in started:
      one.signal(signal.SIGTERM)
    codes = [one.process.wait(WAIT_SECONDS) for one in started]
    stopped = any("Stopped" in one.output for one in started)
    # A start that has not said anything yet does not listen yet.
    silent = all(code in (0, -signal.SIGTERM) and not (code and one.output) for code, one in zip(codes, started))
    return phase, ("ended" if stopped or any(codes) else "unharmed") if silent else "WRONG"
  if fault == "full disk":
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
      while file.write(bytes(4096)):
        pass
    return phase, told(started, ("No space left",), lambda: (disk / "ballast").unlink())
  if fault == "read-only disk":
    if subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True).returncode:
      return None  # a file was open for writing
    return phase, told(started, ("Read-only file system",), lambda: subprocess.run(
        ["mount", "-o", "remount,rw", disk], check=True))
  if fault == "folder vanishes":
    if not work.exists():
      return None
    work.rename(gone)
    time.sleep(rng.uniform(0.05, 1.0))

    def bring_back():
      shutil.rmtree(work, ignore_errors=True)  # what was written below a mount point that is not mounted
      gone.rename(work)

    return phase, told(started, ("error: ",), bring_back)
  if fault == "stall":
    for one in started:
      one.signal(signal.SIGSTOP)
    time.sleep(rng.uniform(0.1, 2.0))
    for one in started:
      one.signal(signal.SIGCONT)
    codes = [one.process.wait(WAIT_SECONDS) for one in started]
    return phase, "unharmed" if not any(codes) else "WRONG"
  other = restart()
  codes = [one.process.wait(WAIT_SECONDS) for one in other]
  refused = all(codes) and any("is in use by process" in one.output for one in other)
  late = (shares or is_over()) and not any(codes)  # rows of tables are shared; else it found a finished run
  if any(one.process.wait(WAIT_SECONDS) for one in started) or not (refused or late):
    return phase, "WRONG"
  return phase, "unharmed"


def told(started: list[Start], words: tuple[str, ...], mend) -> str:
  """`ended` for starts that end in one line with the words, `unharmed` for those that end well. The disk is mended."""
  try:
    codes = [one.process.wait(WAIT_SECONDS) for one in started]
  except subprocess.TimeoutExpired:
    codes = [None]
  finally:
    mend()
  if not any(codes):
    return "unharmed" if None not in codes else "WRONG"
  lines = [line for one in started for line in one.output.splitlines() if line.startswith("error: ")]
  if not any(word in line for line in lines for word in words):
    return "WRONG"
  if len(started) == 1 and (codes != [1] or "Traceback" in started[0].output):
    return "WRONG"  # a process that loses its peer is ended by JAX, with text of its own
  return "ended"


def damage(fault: str, work: pathlib.Path, rng: random.Random) -> bool:
  """Changes the files of a stopped run; returns whether there were any."""
  if fault == "clock jumps":
    moved = time.time() + rng.choice((-1, 1)) * rng.uniform(3600, 10 * 365 * 86400)
    for path in work.rglob("*"):
      os.utime(path, (moved, moved), follow_symlinks=False)
    return work.exists()
  steps = [path for path in work.glob("**/checkpoints/**/*") if path.is_dir() and path.name.isdigit()]
  trainings = collections.Counter(path.parent for path in steps)
  newest = [max((p for p in steps if p.parent == where), key=lambda p: int(p.name))
            for where, count in trainings.items() if count > 1]  # there is one before it
  files = sorted(path for step in newest for path in step.rglob("*") if path.is_file() and path.stat().st_size)
  if not files:
    return False
  path = rng.choice(files)
  content = bytearray(path.read_bytes())
  if fault == "truncated file":
    content = content[:rng.randrange(len(content))]
  else:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  path.write_bytes(content)
  return True


def run_once(
    seed: int, number: int, folder: pathlib.Path, jobs: dict[str, Job], whole: dict[str, tuple], can_mount: bool
) -> dict:
  """One run of a job with its faults: {"run", "job", "faults": [[fault, phase, outcome]], "outcome"}.

  `whole`: what each kind of job ends with unbroken, and its seconds.
  """
  rng = random.Random(f"{seed} {number}")
  name = rng.choices(list(jobs), [1 if job.processes > 1 else 8 for job in jobs.values()])[0]
  disk, logs = folder / "disk", folder / "logs"
  shutil.rmtree(logs, ignore_errors=True)
  logs.mkdir()
  work, faults = disk / "run", []

  def start():
    return jobs[name].start(work, logs)

  for _ in range(rng.randint(1, MOST_FAULTS)):
    allowed = [weight if can_mount or "disk" not in fault else 0 for fault, weight in zip(FAULTS, WEIGHTS, strict=True)]
    fault = rng.choices(FAULTS, allowed)[0]
    begun = start()
    moment = rng.uniform(0, whole[name][1])
    if fault != "kill in a save":
      wait_until(lambda end=time.monotonic() + moment: time.monotonic() > end, begun, WAIT_SECONDS)
    found = strike(fault, begun, work, rng, start, name == "tables")
    for one in begun:
      one.process.kill()
    if found is None:
      faults.append([fault, "", "too late"])
      break
    if fault in BETWEEN and not damage(fault, work, rng):
      fault = "kill"
    faults.append([fault, *found])
    if found[1] == "WRONG":
      break
  try:
    codes = [one.process.wait(WAIT_SECONDS) for one in start()]
    outcome = "LOST" if any(codes) else "same" if ended_with(work) == whole[name][0] else "DIFFERENT"
  except (subprocess.TimeoutExpired, FileNotFoundError):
    outcome = "LOST"
  if outcome != "same" or any(it[2] == "WRONG" for it in faults):
    kept = folder / "kept" / str(number)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(logs, kept / "logs")
    shutil.copytree(work, kept / "run", ignore_dangling_symlinks=True)
  shutil.rmtree(work, ignore_errors=True)
  return {"run": number, "job": name, "faults": faults, "outcome": outcome}


def summarise(rows: list[dict]) -> dict:
  """Counts by fault and phase, by job, and of outcomes."""
  met = [(row["job"], *fault) for row in rows for fault in row["faults"] if fault[2] != "too late"]
  by_fault = collections.defaultdict(collections.Counter)
  for _, fault, phase, outcome in met:
    by_fault[fault].update([phase, outcome])
  return {
      "runs": len(rows), "endings": len(met),
      "outcomes": dict(collections.Counter(row["outcome"] for row in rows)),
      "jobs": dict(collections.Counter(job for job, *_ in met)),
      "faults": {fault: dict(by_fault[fault]) for fault in FAULTS if fault in by_fault},
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--folder", required=True, help="work folder")
  parser.add_argument("--endings", type=int, default=1000, help="faults that a start meets, in all")
  parser.add_argument("--seed", type=int, default=0, help="of all draws")
  parser.add_argument("--log", help="file of the lines that the runs add to")
  parser.add_argument("--jobs", help="kinds of jobs, by commas; all where none is given")
  parser.add_argument("--json", help="write the counts to this file")
  given = parser.parse_args()
  folder = pathlib.Path(given.folder).resolve()
  disk = folder / "disk"
  disk.mkdir(parents=True, exist_ok=True)
  os.chdir(ROOT)
  os.environ["PYTHONPATH"] = str(ROOT)
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  jobs = {name: job for name, job in make_jobs(folder).items() if name in (given.jobs or name).split(",")}
  log = pathlib.Path(given.log or folder / "endings.jsonl").resolve()
  rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
  mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(disk)]
  can_mount = bool(shutil.which("mount")) and subprocess.run(mount, capture_output=True).returncode == 0
  try:
    whole = {}
    for name, job in jobs.items():
      seconds = 0.0
      for _ in range(2):  # the first start compiles
        (folder / "logs").mkdir(exist_ok=True)
        shutil.rmtree(disk / "whole", ignore_errors=True)
        began = time.monotonic()
        for one in job.start(disk / "whole", folder / "logs"):
          one.finish()
        seconds = time.monotonic() - began
      whole[name] = ended_with(disk / "whole"), seconds
      shutil.rmtree(disk / "whole")
      print(f"{name}: {seconds:.1f} s unbroken", flush=True)
    while summarise(rows)["endings"] < given.endings:
      rows.append(run_once(given.seed, len(rows), folder, jobs, whole, can_mount))
      with log.open("a") as file:
        file.write(json.dumps(rows[-1]) + "\n")
      met = ", ".join(f"{fault} ({phase}): {outcome}" for fault, phase, outcome in rows[-1]["faults"])
      print(f"run {len(rows)}, {rows[-1]['job']}: {met} -> {rows[-1]['outcome']}", flush=True)
  finally:
    if can_mount:
      subprocess.run(["umount", "-l", disk], check=True)
  counts = summarise(rows) | {"seed": given.seed}
  columns = ("before the first save", "between saves", "in a save", "after a training", "ended", "unharmed", "WRONG")
  print(markdown_table(["fault", *columns], [
      [fault, *(str(its.get(column, 0)) for column in columns)] for fault, its in counts["faults"].items()]))
  print(f"{counts['endings']} endings of {counts['runs']} runs: {counts['outcomes']}, by job {counts['jobs']}")
  if given.json:
    pathlib.Path(given.json).write_text(json.dumps(counts, indent=1) + "\n")
  wrong = any(outcome.isupper() for row in rows for outcome in (row["outcome"], *(fault[2] for fault in row["faults"])))
  sys.exit(1 if wrong else 0)


if __name__ == "__main__":
  main()
