"""The installed command `posynda NAME ...`, and presets by name.

`posynda lift ...` is `python -m experiments.lift ...`; COMMANDS has the other names. From a checkout
`python -m experiments.console NAME ...` does the same.
"""

import pathlib
import runpy
import sys
from collections.abc import Sequence

PRESETS = pathlib.Path(__file__).parent / "presets"
COMMANDS = {  # name -> (module in the folder above this one, help)
    "adapt": ("experiments.adapt", "adapt a base to an unlabelled target"),
    "lift": ("experiments.lift", "lift 2D keypoints of your video to 3D"),
    "evaluate": ("experiments.evaluate", "score weights on labelled data"),
    "pretrain": ("experiments.pretrain", "train a base"),
    "visualize": ("experiments.visualize", "make pages, films and figures"),
    "report": ("experiments.report", "make one page of a run"),
    "tables": ("experiments.tables", "make the paper's tables, and the open benchmark"),
    "diagnose": ("experiments.diagnose", "split a gap into camera, motion and body"),
    "footage": ("experiments.footage", "score lifts of real footage against four calibrated cameras"),
    "motion": ("experiments.motion", "measure the found up and smoothing on clips of a virtual rig"),
    "detector-errors": ("experiments.detector_errors", "fit the errors of a real detector on real footage"),
    "trust": ("experiments.trust", "measure which faults of 2D input are noticed"),
    "hypotheses": ("experiments.hypotheses", "measure what hypotheses and their spread are worth"),
    "ablation": ("experiments.ablation", "measure what each part of a base's training is worth"),
    "one-video": ("experiments.one_video", "measure adaptation to single videos"),
    "accounts": ("experiments.accounts", "measure what an account without labels tells"),
    "peft": ("experiments.peft", "study ranks, rules, rates and adapter arithmetic"),
    "export": ("experiments.export", "export merged weights for serving"),
    "convert": ("experiments.convert", "read and write PyTorch checkpoints and .safetensors files"),
    "throughput": ("experiments.throughput", "measure how fast long videos are lifted"),
    "benchmark": ("experiments.benchmark", "measure speed beside PyTorch"),
    "detector": ("data_prep.detector", "take BlazePose's models from a wheel or folder, for lift --video"),
    "check": ("data_prep.check", "check a download"),
    "prepare-human36m": ("data_prep.human36m", "prepare Human3.6M"),
    "prepare-mpi-inf-3dhp": ("data_prep.mpi_inf_3dhp", "prepare MPI-INF-3DHP"),
    "prepare-threedpw": ("data_prep.threedpw", "prepare 3DPW"),
}


def main() -> None:
  """Runs the script that the first argument names, with the other arguments."""
  name = sys.argv[1] if len(sys.argv) > 1 else "--help"
  if name not in COMMANDS:
    lines = [f"  {command:22}{text}" for command, (_, text) in COMMANDS.items()]
    print("usage: posynda COMMAND [--flag=value ...]; posynda COMMAND --help lists its flags", *lines, sep="\n")
    sys.exit(0 if name in ("--help", "-h", "help") else f"error: {name!r} is no command of posynda")
  above = __package__.rpartition(".")[0]  # posynda_jax in the wheel, empty in a checkout
  sys.argv[:2] = [f"posynda {name}"]
  runpy.run_module(".".join(filter(None, [above, COMMANDS[name][0]])), run_name="__main__", alter_sys=True)


def read_presets(arguments: Sequence[str], inside: tuple[pathlib.Path, ...] = ()) -> list[str]:
  """The arguments with each --flagfile=FILE replaced by the flags in the file, and in the files that it names.

  `NAME.flags` and `experiments/presets/NAME.flags` name a preset of this package if the current folder has no such
  file. A name that is no file, and a file that includes itself, stay unchanged; absl reports them.
  """
  found = []
  for argument in arguments:
    flag, _, name = argument.partition("=")
    if flag.lstrip("-") != "flagfile":
      found.append(argument)
      continue
    path = pathlib.Path(name).expanduser()
    if not path.exists() and path.parent in (pathlib.Path(), pathlib.Path("experiments/presets")):
      path = PRESETS / path.name
    if not path.is_file() or path in inside:
      found.append(argument)
      continue
    lines = (line.strip() for line in path.read_text().splitlines())
    found += read_presets([line for line in lines if line and not line.startswith(("#", "//"))], (*inside, path))
  return found


if __name__ == "__main__":
  main()
