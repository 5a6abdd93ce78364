"""The paper's tables, and what goes beyond them, as data: rows that change a configuration, and a table of their scores.

`experiments/tables.py` runs them.
"""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
import statistics
from typing import Any

from posynda_jax.datasets import load
from posynda_jax.runtime import runs

_PAPER = dict(
    pseudo=True, pseudo_label="best", refine="none", tilt="none", pair="random",
    proportions="source", stretch=0.0, novel_views=0.0, tumble=0.0, teacher_flip=False, teacher_ema=0.0, select="frame",
    num_hypotheses=3, sampling_steps=1, tune="lora", bias=True, synthesis=True, adversarial_rate=0.0,
    adversarial_penalty=0.0, adversarial_share=0.25,
)
_F = dict(_PAPER, pseudo=False)


@dataclasses.dataclass(frozen=True)
class Row:
  """One configuration, as changes to the flags'.

  `adapt`: fields of AdaptConfig; None trains nothing. `rate`, `clips`, `updates`: factors of --adapt_rate, --clips and --updates. `test`: fields of EvaluateConfig. `base`:
  flags of `pretrain`, but `width` as a share of --width; or `denoiser`. `target_rig`: the source's motion is seen by the target's
  own rig, where it has one. `view`: --view of the row, None as the flags have it. `paper`: its MPJPE in the paper.
  """

  name: str
  adapt: dict[str, Any] | None = None
  rate: float = 1.0
  clips: int = 1
  updates: int = 1
  test: dict[str, Any] = dataclasses.field(default_factory=dict)
  base: dict[str, Any] = dataclasses.field(default_factory=dict)
  target_rig: bool = False
  view: str | None = "own"
  paper: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows with a title and what a reader must know of them."""

  title: str
  rows: tuple[Row, ...]
  note: str = ""


_SOURCE_ONLY = Row("source-only", paper=111.7)
_D3DP = tuple(
    Row(f"D3DP, source-only, H = 20, K = 5, {how}", test=dict(num_hypotheses=20, sampling_steps=5, select=select), paper=paper)
    for how, select, paper in (
        ("mean of all (P-Agg)", "mean", None), ("best frame by reprojection", "frame", None),
        ("best joints by reprojection (J-Agg)", "joint", 96.5),
    )
)
_GAN = Row("GAN: generator of target poses in place of F", dict(_F, adversarial_rate=1e-3, adversarial_penalty=1.0), paper=87.5)
_GANS = tuple(  # how its game was settled
    Row(f"GAN, the generator as fast as the critic, {how}", dict(_GAN.adapt, adversarial_share=1.0, adversarial_penalty=penalty))
    for how, penalty in (("penalty 1", 1.0), ("penalty 10", 10.0), ("no penalty", 0.0))
)
_OURS = Row("PoSynDA", _PAPER, paper=58.2)
_DORA = Row("DoRA: r = 4", dict(_PAPER, tune="dora"))
_TURNED = dict(_F, tilt="spine", num_hypotheses=1)  # one answer of the teacher says how people stand
_BODIES = dict(_TURNED, proportions="target")
_ROTATION = Row("F with rotation", _TURNED)
_SEEN = Row("F as seen", dict(_BODIES, pair="upright"), clips=2)
_PERFECT_F = Row("bound of F: the source filmed by the target's own rig", dict(_F, synthesis=False), target_rig=True)
_FLAGS = Row("the flags' own settings", {}, view=None)
_CEILING = Row("ceiling: the same adapter with target labels", {**_PAPER, "supervision": "ceiling"})
# By a virtual camera that turns and zooms until people stand as before the source's.
_VIEW_ALONE, _GAN_TURNED, _OURS_TURNED, _SEEN_TURNED, _CEILING_TURNED = (
    dataclasses.replace(row, name=f"{row.name.partition(':')[0]}, through a virtual camera", view="source", paper=None)
    for row in (_SOURCE_ONLY, _GAN, _OURS, _SEEN, _CEILING)
)
_NOVEL_TURNED = dataclasses.replace(
    _SEEN_TURNED, name="F as seen and novel views, tumbled, through a virtual camera",
    adapt=dict(_SEEN.adapt, novel_views=1.0, tumble=1.0), clips=1,  # half of what the student sees an update are novel views
)
_EVERYWHERE = r".*(attention/(qkv|proj)|mlp_\w+)"


def _changed(row: Row, name: str, **changes) -> Row:
  return dataclasses.replace(row, name=f"{row.name}, {name}", adapt=dict(row.adapt, **changes))


_NOVEL_LARGE, _CEILING_LARGE = (
    _changed(row, "r = 16 on attention and MLPs", rank=16, target_rule=_EVERYWHERE) for row in (_NOVEL_TURNED, _CEILING_TURNED)
)


def _longer(row: Row, how_often: str, updates: int) -> Row:
  return dataclasses.replace(row, name=f"{row.name}, {how_often} the updates", updates=updates)


_NOVEL_LONG, _CEILING_LONG = (_longer(row, "three times", 3) for row in (_NOVEL_LARGE, _CEILING_LARGE))
_NOVEL_RSLORA, _CEILING_RSLORA = (_changed(row, "rsLoRA: s = 8 / sqrt(16)", scale=2.0) for row in (_NOVEL_LARGE, _CEILING_LARGE))
_NOVEL_LONGEST, _CEILING_LONGEST = (_longer(row, "nine times", 9) for row in (_NOVEL_RSLORA, _CEILING_RSLORA))
_NOVEL_EVERY = dataclasses.replace(_changed(_NOVEL_TURNED, "every parameter", tune="full", bias=False), rate=0.1)
_LARGE = (_NOVEL_LARGE, _NOVEL_LONG, _NOVEL_LONGEST, _CEILING_LARGE, _CEILING_LONG, _CEILING_LONGEST)
_FITTED = tuple(  # the same adapters; what is done to their answers reads the test clip's 2D and intrinsics
    dataclasses.replace(row, name=f"{row.name.partition(':')[0]}, poses fitted to a body at test time", test=dict(refine="body"), paper=None)
    for row in (_SOURCE_ONLY, _SEEN, _CEILING, _SEEN_TURNED, _CEILING_TURNED, _NOVEL_TURNED)
) + tuple(
    dataclasses.replace(row, name=f"{row.name}, poses fitted to a body at test time", test=dict(refine="body")) for row in _LARGE
)
_VIDEOPOSE = {"denoiser": "videopose"}
_DENOISERS = (
    Row("MixSTE, source-only"), Row("MixSTE, PoSynDA", _PAPER), Row("VideoPose, source-only", base=_VIDEOPOSE),
    Row("VideoPose, PoSynDA", _PAPER, base=_VIDEOPOSE),
)
_WIDTHS = {0.5: "half", 1.0: "whole", 2.0: "twice"}
TABLES = {
    "1": Table("Table 1: denoisers, Human3.6M", _DENOISERS),
    "2": Table("Table 2: denoisers, 3DHP", _DENOISERS),
    "3": Table(
        "Table 3: components",
        (
            _SOURCE_ONLY, Row("+ F", dict(_F, tune="full", bias=False), rate=0.1, paper=62.5),
            Row("+ LoRA", dict(_F, bias=False), paper=61.9), Row("+ cross-dataset embedding", _F, paper=60.7),
            Row("+ multi-hypothesis: PoSynDA", _PAPER, paper=58.2), _FLAGS, _CEILING,
        ),
        "'+ F' tunes every parameter, at a tenth of the rate. The paper's parameters are 49,152 r + 42, a bias of 3 x 14; ours has 3 x 17.",
    ),
    "4": Table("Table 4: denoisers, 3DPW", _DENOISERS),
    "5": Table(
        "Table 5: multi-hypothesis inference, and a generator of poses",
        (_SOURCE_ONLY, *_D3DP, _GAN, _OURS, _FLAGS, _CEILING),
    ),
    "6": Table(
        "Table 6: number of hypotheses",
        (_SOURCE_ONLY, *(
            Row(f"H = {num}", dict(_PAPER, num_hypotheses=num), paper=paper)
            for num, paper in ((1, 60.7), (2, 59.9), (3, 58.2), (4, 58.1), (5, 58.3), (6, 58.5), (10, None), (20, None))
        )),
    ),
    "7": Table(
        "Table 7: rank, and what else could be tuned",
        (
            _SOURCE_ONLY, *(
                Row(f"r = {rank}", dict(_PAPER, rank=rank), paper=paper)
                for rank, paper in ((1, 62.1), (2, 60.4), (3, 59.8), (4, 58.2), (5, 58.3), (6, 58.1), (8, None), (16, None))
            ),
            _DORA, Row("every parameter", dict(_PAPER, tune="full", bias=False), rate=0.1),
            Row("biases alone (BitFit)", dict(_PAPER, tune="biases", bias=False)), Row("norms alone", dict(_PAPER, tune="norms", bias=False)),
        ),
        "The paper's parameters are 49,152 r + 42 truncated, its row r = 6 is misprinted; its FLOPs grow with r as if H were 1.",
    ),
    "8": Table(
        "Table 8: timesteps and width, a base each",
        tuple(
            Row(f"T = {steps}, {_WIDTHS[width]} width", _PAPER, base=dict(diffusion_steps=steps, width=width), paper=paper)
            for steps, width, paper in (
                (100, 1.0, 59.8), (500, 0.5, 59.3), (500, 1.0, 59.0), (1000, 0.5, 58.9), (1000, 1.0, 58.2), (1000, 2.0, 58.3),
            )
        ),
    ),
    "open": Table(
        "Open benchmark, version 2",
        (_SOURCE_ONLY, _GAN, Row("F", _F), _OURS, _ROTATION, _SEEN, _FLAGS,
         _VIEW_ALONE, _GAN_TURNED, _OURS_TURNED, _SEEN_TURNED, _NOVEL_TURNED, *_LARGE[:3],
         _PERFECT_F, _CEILING, _CEILING_TURNED, *_LARGE[3:], *_FITTED),
        "'F as seen' learns from as many labelled clips as the ceiling, which is twice those of F; with novel views half of these clips have no label. Closure is towards the ceiling without a fit or a virtual camera, in brackets towards the one with the same fit, camera and adapter. The fit (`--test_refine=body`) and the virtual camera (`--view=source`) read the test clip's own 2D and intrinsics, no label.",
    ),
    "beyond": Table(
        "Beyond the paper",
        (
            _SOURCE_ONLY, _GAN, *_GANS, _OURS, Row("choice by sequence", dict(_PAPER, select="sequence")),
            Row("mean of the hypotheses", dict(_PAPER, pseudo_label="mean")), Row("teacher with K = 5", dict(_PAPER, sampling_steps=5)),
            Row("student at every t", dict(_PAPER, student_input="diffused")),
            Row("student at every t, teacher with K = 5", dict(_PAPER, student_input="diffused", sampling_steps=5)),
            Row("EMA teacher, 0.99", dict(_PAPER, teacher_ema=0.99)),
            Row("pseudo-labels fitted to the source's mean body", dict(_PAPER, pseudo_label="mean", refine="body")),
            Row("F with tilt", dict(_F, tilt="teacher", tilt_deg=180.0)), _ROTATION,
            Row("F with rotation and the target's proportions", _BODIES),
            Row("the same, paired by uprightness", dict(_BODIES, pair="upright")),
            dataclasses.replace(_SEEN, name="the same with twice the clips: F as seen"), _VIEW_ALONE,
            dataclasses.replace(_ROTATION, name="F with rotation, through a virtual camera", view="source"), _SEEN_TURNED,
            dataclasses.replace(_SEEN_TURNED, name="the same, tumbled", adapt=dict(_SEEN.adapt, tumble=1.0)),
            dataclasses.replace(_SEEN_TURNED, name="F as seen and novel views, through a virtual camera", adapt=dict(_SEEN.adapt, novel_views=1.0), clips=1),
            _NOVEL_TURNED,
            Row("F with other bodies, 10%", dict(_F, stretch=0.1)),
            Row("F with rotation, labels fitted", dict(_PAPER, tilt="spine", pseudo_label="mean", refine="body")),
            *(_changed(_NOVEL_TURNED, name, **change) for name, change in (
                ("DoRA", dict(tune="dora")), ("on attention and MLPs", dict(target_rule=_EVERYWHERE)),
            )),
            _NOVEL_LARGE, _NOVEL_LONG, _longer(_NOVEL_LARGE, "nine times", 9),
            _NOVEL_RSLORA, _longer(_NOVEL_RSLORA, "three times", 3), _NOVEL_LONGEST,
            _NOVEL_EVERY, _longer(_NOVEL_EVERY, "three times", 3),
            Row("source-free: no source pose at all", dict(_PAPER, source=False, pseudo_label="mean", refine="body")), _FLAGS,
            _CEILING, _CEILING_TURNED, *_LARGE[3:], *_FITTED[4:],
        ),
    ),
}
PAPERS = tuple(name for name in TABLES if name.isdigit())  # what `all` means


def digest(identity: dict[str, Any]) -> str:
  """Sixteen digits that name a configuration."""
  return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def filmed_by(source: str, target: str) -> str | None:
  """A source's motion before a target's virtual rig, "cmu_mocap/wild_rig" of "cmu_mocap/h36m_rig" and "hdm05_mocap/wild_rig_gt"; None
  where real cameras recorded either, or where a rig goes with its motion."""
  dataset, rig = source.partition("/")[0], target.partition("/")[2].removesuffix("_gt").removesuffix("_detected")
  try:
    both = [load.world_config(f"{name}/{rig}")[0] for name in (dataset, target.partition("/")[0])]
  except ValueError:
    return None
  return f"{dataset}/{rig}" if both == ["world", "world"] else None


def summarise(name: str, results: dict[str, list[dict]], paper: bool) -> dict[str, Any]:
  """Rows of a table: mean and standard deviation (of n - 1; None of one seed) of every score, closure, of rows with a
  view, a fit or an adapter of their own also that towards the ceiling with the same, what each row costs, and with `paper` the paper's figure."""
  rows, first = [], next(iter(results.values()))[0]
  headline = next(iter(first["scores"]))
  mean = lambda row: statistics.fmean(one["scores"][headline] for one in results[row])

  def means_of(row: Row) -> str:
    """What a row is helped by beside what it learns from, to be compared; an adapter is the flags' own where the row says nothing."""
    adapter = {"tune": "lora", **(row.adapt or {})}
    return json.dumps([row.view, row.test, row.updates, *map(adapter.get, ("tune", "rank", "scale", "target_rule"))], sort_keys=True)

  is_ceiling = lambda row: (row.adapt or {}).get("supervision") == "ceiling"
  ceilings = {means_of(row): mean(row.name) for row in TABLES[name].rows if row.name in results and is_ceiling(row)}
  start, plain = mean(_SOURCE_ONLY.name) if _SOURCE_ONLY.name in results else None, means_of(_CEILING)
  for row in TABLES[name].rows:
    if row.name not in results:
      continue
    found = results[row.name]
    values = {key: [one["scores"][key] for one in found] for key in first["scores"]}
    shown = {"mean": {k: statistics.fmean(v) for k, v in values.items()},
             "std": {k: statistics.stdev(v) if len(v) > 1 else None for k, v in values.items()}}
    if start is not None and row.name not in (_SOURCE_ONLY.name, _CEILING.name):
      closed = {end: (start - mean(row.name)) / (start - ceilings[end]) for end in (plain, means_of(row)) if end in ceilings}
      shown |= {"closure": closed[plain]} if plain in closed else {}
      if means_of(row) in closed and means_of(row) != plain and not is_ceiling(row):
        shown["closure_alike"] = closed[means_of(row)]
    rows.append({
        "name": row.name, "seeds": len(found), **shown, "paper_mpjpe_mm": row.paper if paper else None,
        **{key: found[0][key] for key in ("trainable", "flops", "frames", "base")},
        "seconds": statistics.fmean(one["seconds"] for one in found if one.get("device") == found[0].get("device")),
        "devices": [one.get("device", "cpu") for one in found], "runs": [one["run"] for one in found], "by_seed": values, "groups": found[0]["groups"],
    })
  table = {"table": name, "title": TABLES[name].title, "note": TABLES[name].note, "rows": rows, "protocol": first["protocol"]}
  return table | {"scores": list(first["scores"])}  # in the protocol's order, the headline first: files sort the names of a mapping


def columns(table: dict) -> tuple[list[str], list[list[str]]]:
  """Head and cells of a table as text: mean ± std of the scores, closure in MPJPE, parameters, GFLOPs, seconds of training."""
  rows, scores = table["rows"], table["scores"]
  closed, paper = any("closure" in row for row in rows), any(row["paper_mpjpe_mm"] for row in rows)
  percent = lambda row: f"{100 * row['closure']:.0f}" + (f" ({100 * row['closure_alike']:.0f})" if "closure_alike" in row else "")
  on = lambda row: "" if (device := row.get("devices", ["cpu"])[0]) == "cpu" or not row["trainable"] else f" on {device}"
  head = ["row", *scores, *(["closure %"] if closed else []), "trainable", "GFLOPs", "seconds", *(["paper's MPJPE"] if paper else [])]
  cells = []
  for row in rows:
    value = lambda key: f"{row['mean'][key]:.1f}" + ("" if row["std"][key] is None else f" ± {row['std'][key]:.1f}")
    cells.append([
        row["name"], *map(value, scores), *([percent(row) if "closure" in row else ""] if closed else []),
        f"{row['trainable']:,}", f"{row['flops'] / 1e9:.4g}", f"{row['seconds']:.0f}" + on(row),
        *([f"{row['paper_mpjpe_mm'] or ''}"] if paper else []),
    ])
  return head, cells


def markdown(table: dict) -> str:
  """The table with its note and protocol, for a document."""
  head, cells = columns(table)
  line = lambda texts: f"| {' | '.join(texts)} |"
  seeds = sorted({row["seeds"] for row in table["rows"] if row["trainable"]}) or [1]
  runs_of_each = f"{seeds[-1]} seed{'s' if seeds[-1] > 1 else ''}" + (", of some rows fewer: one without ± has one," if len(seeds) > 1 else "")
  protocol = table["protocol"]
  where = f"{protocol['dataset']} {protocol['split']}, {protocol['keypoints_2d']} 2D, {protocol['protocol']} ({protocol['headline']})"
  about = f"{where}; {runs_of_each} of the adaptation, one base. {table['note']}".strip()
  return "\n".join([f"**{table['title']}.** {about}", "", line(head), "|---" * len(head) + "|", *map(line, cells)]) + "\n"


def save_picture(path, table: dict) -> None:
  """Headline of every row as a bar with its standard deviation; the ceiling as a line."""
  import matplotlib

  matplotlib.use("Agg")
  from matplotlib import pyplot

  rows = table["rows"][::-1]
  headline = table["scores"][0]
  figure, axis = pyplot.subplots(figsize=(8, 1 + 0.34 * len(rows)), layout="constrained")
  values = [row["mean"][headline] for row in rows]
  axis.barh([row["name"] for row in rows], values, xerr=[row["std"][headline] or 0 for row in rows], color="#33658a", height=0.62)
  for place, value in enumerate(values):
    axis.text(value + 0.02 * max(values), place, f"{value:.1f}", va="center", fontsize=9)
  for value in (value for row, value in zip(rows, values, strict=True) if row["name"] == _CEILING.name):
    axis.axvline(value, color="#d1495b", linewidth=1.4)
  axis.set(title=f"{table['title']}, {table['protocol']['dataset']}", xlabel=headline, xlim=(0, 1.15 * max(values)))
  axis.spines[["top", "right"]].set_visible(False)
  figure.savefig(path, dpi=110)
  pyplot.close(figure)


def save(stem: pathlib.Path, table: dict) -> None:
  """The table as Markdown, CSV, JSON and a picture."""
  head, cells = columns(table)
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows([head, *cells])
  runs.write_text(stem.with_suffix(".md"), markdown(table))
  runs.write_text(stem.with_suffix(".csv"), text.getvalue())
  runs.write_json(stem.with_suffix(".json"), table)
  save_picture(stem.with_suffix(".png"), table)
