"""Writes the tables of README.md and docs/*.md from the files in docs/results.

    python docs/make_results.py            # in place; with a folder as argument, into that folder

A page marks the place of a table by two lines, `<!-- results: FUNCTION NAME -->` and `<!-- end -->`. FUNCTION of this
file gives the lines between them. A test checks that the pages equal the files.
"""

import json
import pathlib
import re
import statistics
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from posynda_jax.adaptation import account, base_job, tables
from posynda_jax.adaptation.rows import CEILING
from posynda_jax.evaluation.results import both
from posynda_jax.runtime.text import markdown_table

RESULTS = ROOT / "docs" / "results"
PAGES = ("README.md", "docs/benchmark.md", "docs/footage.md", "docs/tables.md", "docs/results.md", "docs/security.md",
         "docs/resume.md", "docs/performance.md")
BLOCK = re.compile(r"(<!-- results: (\w+)(?: (\w+))? -->\n).*?(<!-- end -->)", re.S)
GUARDED = ", guarded"
SHORT = (  # pattern in a row's name -> what the pages write, in this order
    ("novel views; virtual camera", "`novel`"),
    ("novel views with larger adapter; virtual camera", "`novel_large`"),
    ("^F as seen(?! and)", "`seen`"),
    ("GAN: generator of target poses in place of F", "`gan`"),
    (": the same adapter with target labels", ""),
    ("; virtual camera", ", virtual camera"),
    (" with larger adapter", ", large adapter"),
)
# Rows of options that are deleted: docs/tables.md has their numbers under "What did not help".
GONE = ("the flags' own settings", "DoRA: r = 4")
NOT_SHOWN = {"as seen and novel views"}  # adapters of the gaps' files that docs/results.md leaves out
PARTS = ("home", "camera", "motion", "body", "total")


def read(name: str) -> dict:
  """A file of docs/results."""
  return json.loads((RESULTS / f"{name}.json").read_text())


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table without padding, which would double the size of the pages."""
  return re.sub("-{2,}", "--", re.sub(" {2,}", " ", markdown_table(head, rows))) + "\n"


def short(name: str) -> str:
  """A row's name as the pages write it."""
  for pattern, text in SHORT:
    name = re.sub(pattern, text, name)
  return name


def short_target(target: str) -> str:
  """hdm05/wild_rig for hdm05_mocap/wild_rig_gt."""
  return target.replace("_mocap", "").removesuffix("_gt")


def table(name: str) -> str:
  """A table of `experiments.tables`. Guarded rows become columns, and columns without numbers are left out, as is the
  closure of a gap that the ceiling closes by less than 2 mm.
  """
  found = read(f"tables/{name}")
  rows = {row["name"]: row for row in found["rows"] if row["name"] not in GONE}
  numbered = found["table"].isdigit()
  bare, bound = (rows.get(key, {"mean": {"mpjpe_mm": 0}})["mean"]["mpjpe_mm"] for key in ("source-only", CEILING))
  head = ["row", "MPJPE", "P-MPJPE", "PCK, %", "AUC, %", "closure, %", "guarded MPJPE", "shares kept"]
  head += ["trainable", "GFLOPs"] if numbered else []
  cells = []
  for row in (rows[key] for key in rows if not key.endswith(GUARDED)):
    kept = rows.get(row["name"] + GUARDED)
    guarded = (tables.mean_and_std(kept), ", ".join(f"{share:g}" for share in kept["shares"])) if kept else ("", "")
    percent = (f"{row['mean'][key]:.1f}" for key in ("pck_percent", "auc_percent"))
    scores = *(tables.mean_and_std(row, key) for key in ("mpjpe_mm", "p_mpjpe_mm")), *percent
    cost = (f"{row['trainable']:,}", f"{row['flops'] / 1e9:.3g}") if numbered else ()
    closed = tables.closure_percent(row) if abs(bare - bound) >= 2 else ""
    cells.append([short(row["name"]), *scores, closed, *guarded, *cost])
  used = [i for i in range(len(head)) if any(line[i] for line in cells)]
  chosen = [[line[i] for i in used] for line in (head, *cells)]
  title = f"**{found['title']}**: {found['protocol']['dataset']}, split {found['protocol']['split']}.\n\n"
  return title + markdown(chosen[0], chosen[1:])


def headline() -> str:
  """MPJPE (P-MPJPE) of the bases that ship, and of `base` after `free` with the guard as mean of the seeds."""
  scores = {name: {one["protocol"]["dataset"]: one for one in read(name)["evaluations"]} for name in ("small", "base")}
  guarded, rows = {}, []
  for run in read("guard")["runs"]:
    guarded.setdefault(run["target"], []).append(run["guarded"])
  views = {"cmu": "in_image", "accad": "in_image", "hdm05": "gt", "bandai_namco": "in_image"}
  for target in (f"{dataset}_mocap/wild_rig_{kind}" for dataset, kind in views.items()):
    bare, adapted = (both(of_base[target]) for of_base in scores.values()), ""
    if runs := guarded.get(target):
      adapted = both({key: statistics.mean(run[key] for run in runs) for key in ("mpjpe_mm", "p_mpjpe_mm")})
    rows.append([short_target(target), *bare, adapted])
  return markdown(("target", "`small`", "`base`", "`base`, adapted"), rows)


PAIRS = ("hdm05/wild_rig", "bandai_namco/wild_rig", "accad/wild_rig")


def gap(pair: str) -> dict:
  """Results of `experiments.diagnose` on a pair, from `base`."""
  return read("gap_" + pair.replace("/", "_").removesuffix("_rig"))


def gaps() -> str:
  """Parts of each gap: of the bare base, and what is left of them with each adapter."""
  rows = []
  for pair in PAIRS:
    # The source, which stands beside the target, has no motion part.
    parts = {name: next(part for part in its if part["motion"]) for name, its in gap(pair)["parts"].items()}
    for name in sorted(parts.keys() - NOT_SHOWN, key=lambda name: -parts[name]["total"]):
      its = (f"{parts[name][key]:.1f}" for key in PARTS)
      rows.append([pair, short(name.replace("base", "source-only")), *its])
  return markdown(("pair", "weights", *PARTS), rows)


def action(name: str) -> str:
  """MPJPE of one action of HDM05 under `wild_rig`, and of all frames of the other actions."""
  errors = {}
  for one in (one for one in gap(PAIRS[0])["cells"] if "actions" in one and one["weights"] not in NOT_SHOWN):
    others = [it for key, it in one["actions"].items() if key != name]
    mean = sum(it["frames"] * it["mpjpe_mm"] for it in others) / sum(it["frames"] for it in others)
    errors[short(one["weights"].replace("base", "source-only"))] = one["actions"][name]["mpjpe_mm"], mean
  rows = [(key, *(f"{error:.1f}" for error in errors[key])) for key in sorted(errors, key=lambda key: -errors[key][1])]
  return markdown(("weights", f"`{name}`", "all others"), rows)


def ablation() -> str:
  """What each part of a plan is worth: MPJPE without it less that of the whole plan, over the seeds."""
  found = [read(f"ablation_{seed}")["rows"] for seed in range(3)]
  targets = [f"{name}_mocap/wild_rig_gt" for name in ("cmu", "hdm05", "bandai_namco", "accad")]

  def cell(row, target):
    whole, values = ([its[key][target]["mpjpe_mm"] for its in found] for key in ("as it is", row))
    if row != "as it is":
      values = [without - one for without, one in zip(values, whole, strict=True)]
    return f"{statistics.mean(values):{'' if row == 'as it is' else '+'}.1f} ± {statistics.stdev(values):.1f}"

  rows = ["as it is", *(row for part in base_job.PARTS if (row := f"without {part}") in found[0])]
  return markdown(("training", *map(short_target, targets)), [
      [row, *(cell(row, target) for target in targets)] for row in rows])


def curves() -> str:
  """Errors of small bases by network, optimizer, clips and updates, with the seconds that each took."""
  rows = []
  for path in (RESULTS / "curves").glob("*.json"):
    found = read(f"curves/{path.stem}")
    plan, scores = found["plan"], found["rows"]["as it is"]
    network = "VideoPose" if "channels" in plan["model"] else "MixSTE"
    optimizer = "Muon" if plan["pretrain"]["muon_rate"] else "AdamW"
    trained = plan["model"]["num_frames"], plan["batch"], plan["pretrain"]["num_steps"]
    seconds = round(found["seconds"]["as it is"])
    rows.append((network, optimizer, *trained, seconds, *(its["mpjpe_mm"] for its in scores.values())))
  head = ("network", "optimizer", "frames", "clips", "updates", "s", *map(short_target, scores))
  return markdown(head, [[*map(str, row[:-2]), *(f"{value:.1f}" for value in row[-2:])] for row in sorted(rows)])


def hypotheses() -> str:
  """What twenty hypotheses of the base are worth, by dataset and number of steps."""
  millimetres = {
      "one": "one", "mean": "mean", "frame": "by reprojection", "bones": "by bones", "best_pose": "best pose",
      "best_joint": "best joints", "sigma": "sigma",
  }
  shares = {
      "rank": "rank", "covered_depth_50%": "50% depth", "covered_depth_90%": "90% depth",
      "covered_across_90%": "90% across",
  }
  rows = []
  for name in ("cmu", "hdm05", "hdm05_adapted", "cmu_detected", "hdm05_detected"):
    found = read(f"hypotheses_{name}")
    for row in found["rows"]:
      dataset = found["dataset"].replace("_mocap", "").replace("_rig_gt", "").replace("_rig_detected", ", detected")
      dataset += ", adapted" if name.endswith("adapted") else ""
      rows.append([dataset, str(row["steps"]), *(f"{row[f'{name}_mm']:.1f}" for name in millimetres),
                   *(f"{row[name]:.2f}" for name in shares)])
  return markdown(("clips", "K", *millimetres.values(), *shares.values()), rows)


def guard() -> str:
  """What the guard kept of `free` on each target, over the seeds: errors as mean and range."""
  found, rows = read("guard")["runs"], []
  for target in dict.fromkeys(run["target"] for run in found):
    its = [run for run in found if run["target"] == target]

    def over_seeds(name):
      values = [run[name]["mpjpe_mm"] for run in its]
      return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"

    shares = ", ".join(f"{run['share']:g}" for run in its)
    rows.append([short_target(target), f"{its[0]['source_only']['mpjpe_mm']:.1f}",
                 over_seeds("whole"), over_seeds("guarded"), shares])
  return markdown(("target", "as it is", "whole adapter", "guarded", "shares kept"), rows)


def chosen() -> str:
  """What the guard keeps of the runs that its rule was chosen on, and of one on ACCAD: errors in mm."""
  found, rows = read("accounts")["rows"], []
  for run in dict.fromkeys(row["run"] for row in found):
    by_share = {row["share"]: row for row in found if row["run"] == run}
    share = account.decide(by_share, {}).share
    errors = (both(by_share[it]) for it in (0.0, 1.0, share))
    base, recipe, _ = run.split("_")
    target = short_target(by_share[0.0]["target"])
    rows.append([f"`{base.replace('h36m', 'cmu_h36m')}`, `{recipe}`", target, *errors, f"{share:g}"])
  return markdown(("base, recipe", "target", "as it is", "whole adapter", "guarded", "share kept"), rows)


def spoilt() -> str:
  """What the guard said of each target once spoilt: refused for its reprojection, for 2D that fits better, or not."""
  rows = read("spoilt")["rows"]
  targets = list(dict.fromkeys(row["target"] for row in rows))
  said = {(row["spoilt"], row["target"]): (row["why_refused"] or "not refused").partition(":")[0] for row in rows}
  common = "the 2D fits better with (the )?| (of )?the focal length"
  said = {key: "reprojection" if "poses reproject" in why else re.sub(common, "", why) for key, why in said.items()}
  names = [short_target(target) for target in targets]
  return markdown(("2D", *names), [
      [name, *(said[name, target] for target in targets)] for name in dict.fromkeys(row["spoilt"] for row in rows)])


def endings() -> str:
  """Faults that starts of tiny jobs met, by what the run was doing, and how these starts ended."""
  phases = ("before the first save", "between saves", "in a save", "after a training")
  rows = [[fault, *(str(its.get(name, 0)) for name in (*phases, "ended", "unharmed", "WRONG"))]
          for fault, its in read("endings")["faults"].items()]
  counts = read("endings")
  ended = ", ".join(f"{number} {outcome}" for outcome, number in counts["outcomes"].items())
  jobs = ", ".join(f"{number} in {job}" for job, number in counts["jobs"].items())
  return markdown(("fault", *phases, "ended", "unharmed", "wrong"), rows) + (
      f"\n{counts['endings']} endings ({jobs}) of {counts['runs']} runs, with the unbroken run's results: {ended}.\n")


def throughput() -> str:
  """Long videos lifted end to end."""
  rows = [[f"{row['frames']:,}", f"{row['seconds']:.0f}", f"{row['frames_per_second']:,.0f}",
           f"{row['of_forward']:.2f}", f"{row['peak_mib']:,.0f}"] for row in read("throughput")["rows"]]
  return markdown(("frames", "s, end to end", "frames a second", "of the forward's rate", "peak memory, MiB"), rows)


def security() -> str:
  """Ends of the mutated files and of those that are made to do harm."""
  rows = []
  for what, name in (("mutated by the fuzzer", "fuzz"), ("made to do harm", "hostile")):
    found = read(name)
    others = found["files"] - sum(found["ends"].get(end, 0) for end in ("refused", "read"))
    ends = (f"{found['ends'].get(end, 0):,}" for end in ("refused", "read"))
    rows.append([what, f"{found['files']:,}", *ends, str(others), f"{found['slowest_seconds']:.1f}"])
  return markdown(("files", "number", "refused in one line", "read", "ended otherwise", "slowest, s"), rows)


def one_video() -> str:
  """Single videos as they were and adapted, of HDM05's training and test actors."""
  rows = []
  for split in ("train", "test"):
    for name, label in (("source_only", "as it was"), ("adapted", "adapted")):
      found = [f"{row[name]['mpjpe_mm']:.1f}" for row in read(f"one_video_{split}")["rows"]]
      rows.append([f"{split}, {label}", ", ".join(found)])
  return markdown(("videos", "MPJPE of each"), rows)


def trust() -> str:
  """Clips of which a planted fault was caught, by dataset and fault; and clips as they are that were doubted."""
  found = read("trust")
  faults = [row["fault"] for row in next(iter(found.values()))][1:]
  as_they_are = (rows[0].get("untrusted", 0) + rows[0].get("refused", 0) for rows in found.values())
  rows = [["doubted as they are", *map(str, as_they_are)]]
  for i, fault in enumerate(faults, 1):
    rows.append([f"caught: {fault}", *(str(rows[i].get("caught", 0)) for rows in found.values())])
  return markdown(("clips", *(name.replace("_mocap", "").removesuffix("_detected") for name in found)), rows)


def footage(name: str = "footage") -> str:
  """Each view's scores by method, and their mean; a method that changes nothing has no row."""
  found = read(name)["rows"]
  views, rows = list(dict.fromkeys(row["view"] for row in found)), []
  for method in dict.fromkeys(row["method"] for row in found):
    of_method = [row for row in found if row["method"] == method]
    mean = {name: sum(row[name] for row in of_method) / len(of_method) for name in ("mpjpe_mm", "p_mpjpe_mm")}
    cells = [*map(both, [*of_method, mean])]
    if cells not in [row[1:] for row in rows]:
      rows.append([method, *cells])
  return markdown(("lift", *views, "mean"), rows)


def smoothing() -> str:
  """MPJPE and the error of acceleration by cutoff."""
  rows = read("motion")["smooth"]
  return markdown(("`--smooth`, Hz", *(f"{row['smooth_hz']:g}" for row in rows)), [
      ["MPJPE, mm", *(f"{row['mpjpe_mm']:.1f}" for row in rows)],
      ["error of acceleration, m/s2", *(f"{row['acceleration_error']:.1f}" for row in rows)],
  ])


def levels() -> str:
  """MPJPE by roll of the camera, of people lifted as they are shown and levelled."""
  rows = [[f"{row['roll_deg']:g} degrees", *(f"{row[name]:.1f}" for name in ("as_shown", "found", "told"))]
          for row in read("motion")["levels"]]
  return markdown(("roll of the camera", "as shown", "levelled by the up found", "by the true up"), rows)


def filled(text: str) -> str:
  """A page with its tables replaced."""
  return BLOCK.sub(lambda found: found[1] + globals()[found[2]](*filter(None, [found[3]])) + found[4], text)


def main() -> None:
  folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
  for page in PAGES:
    (folder / page).parent.mkdir(parents=True, exist_ok=True)
    (folder / page).write_text(filled((ROOT / page).read_text()))


if __name__ == "__main__":
  main()
