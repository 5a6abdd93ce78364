"""Writes the tables of README.md and docs/*.md from the files in docs/results: python docs/make_results.py

A document says where a table belongs by two lines, `<!-- results: WHAT NAME -->` and `<!-- end -->`; what is between them is written anew,
by the function WHAT of this file. A test holds the documents to the files.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = ("README.md", "docs/benchmark.md", "docs/tables.md", "docs/results.md")
BLOCK = re.compile(r"(<!-- results: (\w+)(?: (\w+))? -->\n).*?(<!-- end -->)", re.S)
PAIRS = (
    "cmu_wild", "hdm05_wild", "hdm05_dhp", "bandai_namco_wild", "bandai_namco_dhp",
    "hdm05_wild_detected", "hdm05_dhp_detected", "bandai_namco_wild_detected", "bandai_namco_dhp_detected",
)
NOVEL = "F as seen and novel views, tumbled, through a virtual camera"
LARGE = f"{NOVEL}, r = 16 on attention and MLPs, three times the updates"
LARGE_FITTED = f"{LARGE}, poses fitted to a body at test time"
HEADLINES = {  # rows of the open benchmark, as README's columns name them
    "source-only": "source-only",
    "source-only, through a virtual camera": "virtual camera alone",
    "GAN: generator of target poses in place of F": "GAN",
    "PoSynDA": "PoSynDA",
    NOVEL: "`novel.flags`",
    LARGE: "`novel_large.flags`",
    LARGE_FITTED: "`novel_large.flags`, fitted",
    "ceiling: the same adapter with target labels": "ceiling",
    "ceiling, through a virtual camera": "ceiling, virtual camera",
}
CLOSURES = ("PoSynDA", NOVEL, LARGE, LARGE_FITTED)
PARTS = ("home", "camera", "motion", "body", "total")


def read(name: str) -> dict:
  return json.loads((RESULTS / f"{name}.json").read_text())


def lines(head, rows) -> str:
  """A Markdown table."""
  line = lambda cells: f"| {' | '.join(cells)} |"
  return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])


def cell(score: dict) -> str:
  return f"{score['mpjpe_mm']:.1f} ({score['p_mpjpe_mm']:.1f})"


def table(name: str) -> str:
  """A table of `experiments.tables` as it stands."""
  return "\n" + tables.markdown(read(f"tables/{name}"))


def again(name: str) -> str:
  """The same of another pair, without the note that the page has had."""
  return "\n" + tables.markdown(read(f"tables/{name}") | {"note": ""})


def benchmark() -> str:
  """The open benchmark's main rows, a line a pair: MPJPE (P-MPJPE), and some closures."""
  rows = []
  for pair in PAIRS:
    result = read(f"tables/{pair}_open")
    head, cells = tables.columns(result)
    found = {row[0]: dict(zip(head, row, strict=True)) for row in cells}
    scores = [f"{found[name]['mpjpe_mm']} ({found[name]['p_mpjpe_mm']})" for name in HEADLINES]
    rows.append([result["protocol"]["dataset"], *scores, *(found[name]["closure %"] for name in CLOSURES)])
  return lines(("target", *HEADLINES.values(), *(f"closure of {HEADLINES[name]}, %" for name in CLOSURES)), rows) + "\n"


def videos(name: str) -> str:
  """Test-time adaptation, a line a video."""
  found = read(name)
  line = lambda what, row: (what, cell(row["source_only"]), cell(row["adapted"]))
  each = [line(f"{video['sequence']}, {video['adapted']['frames']} frames", video) for video in found["videos"]]
  return lines(("video", "source-only: MPJPE (P-MPJPE)", "adapted"), [*each, line(f"all, {found['frames']:,} frames", found)]) + "\n"


def gap_files(name: str, detected: bool) -> list[dict]:
  """Results of `experiments.diagnose` from the shipped base, of files with `detected` in their name or of the others."""
  return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"gap_cmu_h36m_{name}.json")) if ("detected" in path.stem) == detected]


def gaps(detected: str = "") -> str:
  """Parts of each gap from the shipped base, what is left of them a line an adapter; `detected`: with a detector's part, from files so named."""
  rows, names = [], (*PARTS[:-1], *(["detector"] if detected else []), PARTS[-1])
  for found in gap_files("*", bool(detected)):
    for weights in dict.fromkeys(one["weights"] for one in found["cells"]):
      for part in (part for part in found["parts"][weights] if part["motion"]):  # the source's own rows have a camera part alone
        rows.append((f"{part['dataset']}, {part['rig']}", weights.replace("base", "source-only"), *(f"{part[name]:.1f}" for name in names)))
  order = [f"{dataset}_mocap, {rig}_rig" for dataset, _, rig in (pair.rpartition("_") for pair in PAIRS[1:5])]
  return lines(("pair", "weights", *names), sorted(dict.fromkeys(rows), key=lambda row: order.index(row[0]))) + "\n"  # the base is in every file


def action(name: str) -> str:
  """MPJPE of one action of HDM05 under `wild_rig`, and of all frames of the others, a line an adapter."""
  errors = {}
  for found in gap_files("hdm05_wild*", detected=False):
    for one in (one for one in found["cells"] if "actions" in one):
      others = [score for key, score in one["actions"].items() if key != name]
      mean = sum(score["frames"] * score["mpjpe_mm"] for score in others) / sum(score["frames"] for score in others)
      errors[one["weights"].replace("base", "source-only")] = one["actions"][name]["mpjpe_mm"], mean
  return lines(("weights", f"`{name}`", "all others"), [(key, *(f"{error:.1f}" for error in both)) for key, both in errors.items()]) + "\n"


def choosing() -> str:
  """What choosing among hypotheses of the bare base could give on each pair."""
  names = ("one", "mean", "chosen_frame", "best_of_frame", "mean_on_rays", "mean_of_body", "spread")
  rows = {}
  for pair in PAIRS[1:]:
    found = read(f"gap_cmu_h36m_{pair}")
    for one in (one for one in found["cells"] if "hypotheses" in one and one["dataset"] != "cmu_mocap"):
      what = f"{one['dataset']}, {one['rig']}" + ", detected" * one.get("detected", False)
      rows[what] = [what, *(f"{value:.1f}" if (value := one["hypotheses"].get(f"{name}_mm")) else "" for name in names)]
  num = found["protocol"]["hypotheses"]
  head = ("one", f"mean of {num}", "chosen by reprojection", f"best of {num}", "on the rays", "fitted to the source's body", "spread")
  return lines(("pair, source-only", *head), rows.values()) + "\n"


def filled(text: str) -> str:
  """A document with its tables written anew."""
  return BLOCK.sub(lambda found: found[1] + globals()[found[2]](*filter(None, [found[3]])) + found[4], text)


def main() -> None:
  folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
  for page in PAGES:
    (folder / page).parent.mkdir(parents=True, exist_ok=True)
    (folder / page).write_text(filled((ROOT / page).read_text()))


if __name__ == "__main__":
  sys.path.insert(0, str(ROOT))
  from posynda_jax.adaptation import tables

  main()
