"""Tables: rows are sound configurations that tables share, means and closures are right, and a command makes them and goes on."""

import csv
import dataclasses
import json
import re
from concurrent import futures

import pytest

from posynda_jax.adaptation import adapt, tables
from posynda_jax.evaluation import evaluate, protocols
from tests.experiments.test_experiments import ROOT, SMOKE, error_of, run_well


def configs(name: str) -> dict[str, adapt.AdaptConfig]:
  return {
      row.name: adapt.AdaptConfig(**{"body": (1.0,) * 16, **row.adapt}) for row in tables.TABLES[name].rows if row.adapt is not None
  }


@pytest.mark.parametrize("name", tables.TABLES)
def test_rows_are_configurations_that_differ(name):
  rows = tables.TABLES[name].rows
  assert len({row.name for row in rows}) == len(rows)
  assert len({tables.digest(dataclasses.asdict(dataclasses.replace(row, name="", paper=None))) for row in rows}) == len(rows)
  for row in rows:
    if config := configs(name).get(row.name):
      assert config.supervision == "ceiling" or config.pseudo or config.synthesis or row.target_rig
    test = evaluate.EvaluateConfig(**{"body": (1.0,) * 16, **row.test})
    assert test.num_hypotheses == 1 or "select" in row.test  # its result is found by its rule


def test_the_papers_row_is_the_same_in_all_tables():
  ours = adapt.AdaptConfig(body=(1.0,) * 16)
  assert configs("3")["+ multi-hypothesis: PoSynDA"] == configs("6")["H = 3"] == configs("7")["r = 4"] == configs("5")["PoSynDA"] == ours
  changed = lambda one, other: {
      key for key, value in dataclasses.asdict(configs("3")[one]).items() if value != dataclasses.asdict(configs("3")[other])[key]
  }
  assert changed("+ F", "+ LoRA") == {"tune"} and changed("+ LoRA", "+ cross-dataset embedding") == {"bias"}
  assert changed("+ cross-dataset embedding", "+ multi-hypothesis: PoSynDA") == {"pseudo"}


def test_the_presets_of_f_as_seen_are_their_rows_with_all_the_clips():
  lines = (ROOT / "experiments" / "presets" / "seen.flags").read_text().splitlines()
  row = next(row for row in tables.TABLES["open"].rows if row.name == "F as seen")
  given = {name: row.adapt[name] for name in ("pair", "tilt", "proportions", "pseudo_label", "refine")}
  assert {"--nopseudo", "--clips=64", *(f"--{name}={value}" for name, value in given.items())} <= set(lines)
  virtual = next(row for row in tables.TABLES["open"].rows if row.name == "F as seen, through a virtual camera")
  assert virtual.adapt == row.adapt and virtual.clips == 2 and (virtual.view, virtual.test) == ("source", {})
  text = (ROOT / "experiments" / "presets" / "virtual.flags").read_text().splitlines()
  assert [line for line in text if line[0] != "#"] == ["--flagfile=experiments/presets/seen.flags", "--view=source"]
  novel = next(row for row in tables.TABLES["open"].rows if row.name.startswith("F as seen and novel views"))
  assert novel.adapt == row.adapt | {"novel_views": 1.0, "tumble": 1.0} and (novel.clips, novel.view) == (1, "source")
  text = (ROOT / "experiments" / "presets" / "novel.flags").read_text().splitlines()
  assert [line for line in text if line[0] != "#"] == ["--flagfile=experiments/presets/virtual.flags", "--novel_views=1", "--tumble=1", "--clips=32"]
  large = tables.TABLES["open"].rows[tables.TABLES["open"].rows.index(novel) + 1]
  changes = {"rank": 16, "target_rule": r".*(attention/(qkv|proj)|mlp_\w+)"}
  assert large.adapt == novel.adapt | changes and dataclasses.replace(large, name=novel.name, adapt=novel.adapt) == novel
  text = (ROOT / "experiments" / "presets" / "novel_large.flags").read_text().splitlines()
  assert text[1:] == ["--flagfile=experiments/presets/novel.flags", "--rank=16", f"--lora_rule={changes['target_rule']}", "--updates=900"]
  long = tables.TABLES["open"].rows[tables.TABLES["open"].rows.index(large) + 1]
  assert long == dataclasses.replace(large, name=long.name, updates=3)
  text = (ROOT / "experiments" / "presets" / "novel_long.flags").read_text().splitlines()
  assert text[1:] == ["--flagfile=experiments/presets/novel_large.flags", "--lora_scale=2", "--updates=2700"]
  longest = tables.TABLES["open"].rows[tables.TABLES["open"].rows.index(large) + 2]
  assert longest == dataclasses.replace(large, name=longest.name, updates=9, adapt=large.adapt | {"scale": 2.0})
  assert not row.adapt["pseudo"] and row.clips == 2 and "--clips=32" in (ROOT / "experiments" / "presets" / "recipe.flags").read_text()


def test_the_papers_figures_are_its_printed_ones():
  paper = lambda name: [row.paper for row in tables.TABLES[name].rows if row.paper]
  assert paper("3") == [111.7, 62.5, 61.9, 60.7, 58.2] and paper("6")[1:] == [60.7, 59.9, 58.2, 58.1, 58.3, 58.5]
  assert paper("7")[1:] == [62.1, 60.4, 59.8, 58.2, 58.3, 58.1] and paper("8") == [59.8, 59.3, 59.0, 58.9, 58.2, 58.3]


@pytest.mark.parametrize("source, target, seen", [
    ("cmu_mocap/h36m_rig", "hdm05_mocap/wild_rig_gt", "cmu_mocap/wild_rig"), ("cmu_mocap/h36m_rig", "bandai_namco_mocap/dhp_rig_detected", "cmu_mocap/dhp_rig"),
    ("human36m/gt", "hdm05_mocap/wild_rig_gt", None), ("cmu_mocap/h36m_rig", "mpi_inf_3dhp/vnect", None),
    ("synthetic_motion/source", "synthetic_motion/target_gt", None),  # there the rig comes with the target's own motion
])
def test_a_source_is_filmed_by_the_targets_rig_where_that_is_virtual(source, target, seen):
  assert tables.filmed_by(source, target) == seen


def result(mpjpe: float, **changes) -> dict:
  scores = {"mpjpe_mm": mpjpe, "p_mpjpe_mm": mpjpe / 2}
  protocol = {"dataset": "a/b", "split": "test", "keypoints_2d": "gt", "protocol": "open_mocap", "headline": "pooled"}
  more = {"trainable": 7, "flops": 10**9, "frames": 5, "base": "b", "seconds": 2.0, "run": "rows/x", "groups": {}, "protocol": protocol}
  return {"scores": scores, **more, **changes}


@pytest.mark.parametrize("paper", [False, True])
def test_means_deviations_and_closure(paper):
  names = [row.name for row in tables.TABLES["3"].rows]
  found = {names[0]: [result(100.0)], names[2]: [result(60.0), result(64.0), result(62.0)], names[-1]: [result(50.0), result(52.0)]}
  table = tables.summarise("3", found, paper)
  lora = table["rows"][1]
  assert lora["mean"] == {"mpjpe_mm": 62.0, "p_mpjpe_mm": 31.0} and lora["std"] == {"mpjpe_mm": 2.0, "p_mpjpe_mm": 1.0}
  assert lora["closure"] == pytest.approx(38 / 49) and table["rows"][0]["std"]["mpjpe_mm"] is None
  assert "closure" not in table["rows"][0] and "closure" not in table["rows"][2]
  text = tables.markdown(table)
  assert tables.markdown(json.loads(json.dumps(table, sort_keys=True))) == text  # as files keep it
  assert "| + LoRA | 62.0 ± 2.0 | 31.0 ± 1.0 | 78 | 7 | 1 | 2 |" + (" 61.9 |" if paper else "") in text
  assert ("paper's MPJPE" in text) == paper and "3 seeds" in text


def test_a_row_with_a_virtual_camera_a_fit_or_another_adapter_also_closes_towards_the_ceiling_with_the_same():
  fit, large = ", poses fitted to a body at test time", ", through a virtual camera, r = 16 on attention and MLPs"
  found = {"source-only": [result(100.0)], "F as seen, through a virtual camera": [result(60.0)], f"F as seen{fit}": [result(55.0)],
           "ceiling: the same adapter with target labels": [result(60.0)], "ceiling, through a virtual camera": [result(50.0)],
           f"ceiling{fit}": [result(50.0)], f"F as seen, through a virtual camera{fit}": [result(40.0)],
           f"F as seen and novel views, tumbled{large}": [result(50.0)], f"ceiling{large}": [result(20.0)]}
  table = tables.summarise("open", found, False)
  rows = {row["name"]: row for row in table["rows"]}
  closures = {name: {key: row[key] for key in ("closure", "closure_alike") if key in row} for name, row in rows.items()}
  assert closures == {
      "source-only": {}, "ceiling: the same adapter with target labels": {}, "ceiling, through a virtual camera": {"closure": 1.25},
      "F as seen, through a virtual camera": {"closure": 1.0, "closure_alike": 0.8}, f"ceiling{fit}": {"closure": 1.25},
      f"F as seen{fit}": {"closure": 1.125, "closure_alike": 0.9}, f"F as seen, through a virtual camera{fit}": {"closure": 1.5},
      f"F as seen and novel views, tumbled{large}": {"closure": 1.25, "closure_alike": 0.625}, f"ceiling{large}": {"closure": 2.0},
  }
  assert "| 100 (80) |" in tables.markdown(table) and "| 125 |" in tables.markdown(table)


def test_a_command_makes_tables_that_share_rows_and_a_second_start_trains_nothing(data, smoke_base, tmp_path):
  flags_ = (SMOKE, data, smoke_base, f"--workdir={tmp_path}/tables")
  with futures.ThreadPoolExecutor() as pool:  # twice at once: the rows are shared out
    outs = list(pool.map(lambda _: run_well("tables", *flags_, "--table=3"), range(2)))
  assert sum(out.count("Compiling adapted") for out in outs) == 5 and all("+ LoRA, seed 0: mpjpe_mm" in out for out in outs)
  table = json.loads((tmp_path / "tables" / "table_3.json").read_text())
  rows = {row["name"]: row for row in table["rows"]}
  assert len(rows) == 7 and all(row["seeds"] == 1 for row in table["rows"])
  assert rows["+ LoRA"]["trainable"] + 51 == rows["+ cross-dataset embedding"]["trainable"] < rows["+ F"]["trainable"]
  assert rows["+ multi-hypothesis: PoSynDA"]["flops"] == 3 * rows["+ LoRA"]["flops"] > 3 * rows["+ F"]["flops"] > 0
  text = (tmp_path / "tables" / "table_3.md").read_text()
  assert "1 seed" in text and text.splitlines()[2].startswith("| row | mpjpe_mm | p_mpjpe_mm | pck_percent | auc_percent |")
  assert len(list(csv.reader((tmp_path / "tables" / "table_3.csv").open()))) == 8
  assert (tmp_path / "tables" / "table_3.png").stat().st_size > 5000
  (tmp_path / "tables" / "table_3.json").unlink()

  again = run_well("tables", *flags_, "--table=4", "--seeds=2")  # without VideoPose's base: source-only, and PoSynDA as in Table 3
  assert again.count("Compiling adapted") == 1 and "MixSTE, PoSynDA, seed 1: mpjpe_mm" in again
  ours = json.loads((tmp_path / "tables" / "table_4.json").read_text())["rows"][1]
  first, second = ours["by_seed"]["mpjpe_mm"]
  assert first == rows["+ multi-hypothesis: PoSynDA"]["mean"]["mpjpe_mm"] != second and ours["std"]["mpjpe_mm"] > 0

  mixed = run_well("tables", *flags_, "--table=4", "--seeds=3", "--notrain")  # of three seeds two have been run
  table_4 = json.loads((tmp_path / "tables" / "table_4.json").read_text())
  assert "Compiling" not in mixed and [row["seeds"] for row in table_4["rows"]] == [1, 2] and table_4["rows"][1]["by_seed"] == ours["by_seed"]
  assert "finds no row of table 8 that has been run" in error_of("tables", *flags_, "--table=8", "--notrain", "--only=T = 500")

  again = run_well("tables", *flags_, "--table=3")
  assert "Compiling" not in again and (tmp_path / "tables" / "table_3.md").read_text() == text
  assert json.loads((tmp_path / "tables" / "table_3.json").read_text()) == table

  every = run_well("tables", *flags_, "--table=all,open,beyond", "--only=source-only$|T = 1000, whole")  # a row of each
  assert "Compiling" not in every and {path.stem for path in (tmp_path / "tables").glob("*.csv")} == {f"table_{name}" for name in tables.TABLES}

  folder = tmp_path / "tables" / ours["runs"][1]  # a row is a run like any other
  scored = run_well("evaluate", data, f"--run={folder}", "--dataset=synthetic_motion/target_gt", "--split=test[:2%]")
  assert f"{second:.1f}" in re.sub(r"\s+", " ", scored)


def test_rows_that_differ_in_the_rule_alone_draw_their_hypotheses_once(data, smoke_base, tmp_path):
  flags_ = (SMOKE, data, smoke_base, f"--workdir={tmp_path}", "--table=5", "--test_split=test[:2%]")
  run_well("tables", *flags_, "--only=D3DP.*frame")
  (path,) = tmp_path.glob("rows/*/scores.json")
  found = json.loads(path.read_text())
  assert sorted(json.loads(key)[1]["select"] for key in found) == sorted(evaluate.RULES)
  written = path.stat().st_mtime_ns
  run_well("tables", *flags_, "--only=D3DP")
  assert path.stat().st_mtime_ns == written
  rows = json.loads((tmp_path / "table_5.json").read_text())["rows"]
  assert len(rows) == 3 and len({row["mean"]["mpjpe_mm"] for row in rows}) == 3
  assert all(one["protocol"]["selection"] == json.loads(key)[1]["select"] for key, one in found.items())


def test_each_video_adapts_by_itself_and_is_a_run_of_its_own(data, smoke_base, tmp_path):
  flags_ = (SMOKE, data, smoke_base, f"--workdir={tmp_path}", "--target_split=test", "--videos=2")
  out = run_well("videos", *flags_)
  result = json.loads((tmp_path / "videos.json").read_text())
  first, last = result["videos"]
  assert out.count("Compiling adapted") == 2 and first["sequence"] in out and first["split"] == "test[0:1]" and last["split"] != first["split"]
  assert result["frames"] == sum(video["adapted"]["frames"] for video in (first, last)) and first["adapted"]["mpjpe_mm"] != first["source_only"]["mpjpe_mm"]
  for row in ("source_only", "adapted"):
    low, high = sorted(video[row]["mpjpe_mm"] for video in (first, last))
    assert low <= result[row]["mpjpe_mm"] <= high
  assert json.loads((tmp_path / "video_0000" / "config.json").read_text())["target_split"] == "test[0:1]"
  assert "Compiling" not in run_well("videos", *flags_) and json.loads((tmp_path / "videos.json").read_text()) == result
  scored = run_well("evaluate", data, f"--run={tmp_path}/video_0000", "--dataset=synthetic_motion/target_gt", "--split=test[0:1]")
  assert f"{first['adapted']['mpjpe_mm']:.1f}" in scored
  assert "name a whole split" in error_of("videos", *flags_, "--target_split=test[:3]")


def test_what_a_user_gets_wrong_is_one_line(tmp_path):
  assert "tables 9 are unknown; choose of 1, 2, 3" in error_of("tables", SMOKE, "--table=9", f"--workdir={tmp_path}")
  assert "--workdir is not given" in error_of("tables", SMOKE, "--table=3")
  assert "--only=GAN finds no row of table 3, which has source-only, + F" in error_of("tables", SMOKE, "--table=3", "--only=GAN")
  assert "--only=( is no regular expression" in error_of("tables", SMOKE, "--table=3", "--only=(")
  assert "--source is not given" in error_of("tables", "--table=3", f"--workdir={tmp_path}")


@pytest.mark.long
def test_all_tables_in_their_smallest_form(data, tmp_path):
  run_well("pretrain", f"--flagfile={SMOKE.partition('=')[2].replace('smoke', 'smoke_base')}", data, f"--workdir={tmp_path}/videopose",
           "--denoiser=videopose", "--filter_widths=3", "--channels=8")
  out = run_well("tables", SMOKE, data, f"--workdir={tmp_path}/tables", "--table=all,open,beyond", f"--videopose_base={tmp_path}/videopose",
                 "--width=32", "--rank=4", seconds=3000)
  assert {path.stem for path in (tmp_path / "tables").glob("*.md")} == {f"table_{name}" for name in tables.TABLES}
  shared = [json.loads((tmp_path / "tables" / f"table_{name}.json").read_text()) for name in ("3", "6", "7")]
  runs = [{row["name"]: row["runs"] for row in table["rows"]} for table in shared]
  assert runs[0]["+ multi-hypothesis: PoSynDA"] == runs[1]["H = 3"] == runs[2]["r = 4"]
  assert "VideoPose, PoSynDA" in out and out.count("Compiling pretrain") == 6  # Table 8's six bases, one of them the flags' own
  bases = json.loads((tmp_path / "tables" / "bases.json").read_text())
  assert len(bases) == 5 and all(base["base"]["mpjpe_mm"] > 0 and base["seconds"] > 0 for base in bases.values())


def test_the_same_rows_on_two_machines_are_compared(tmp_path):
  for name, mpjpe, device in (("one", 100.0, None), ("other", 100.5, "a GPU")):
    found = {"open": {"scores": {"mpjpe_mm": mpjpe}, "seconds": 3.0, **({"device": device} if device else {})}}
    for digest in ("a", name):  # and a row that the other has not
      (tmp_path / name / "rows" / digest).mkdir(parents=True)
      (tmp_path / name / "rows" / digest / "scores.json").write_text(json.dumps(found))
  assert "apart_mm 0.5" in run_well("compare_machines", f"--folders={tmp_path}/one,{tmp_path}/other", f"--json={tmp_path}/found.json")
  found = json.loads((tmp_path / "found.json").read_text())
  assert found["compared"] == 1 and found["largest_apart_mm"] == 0.5 and found["each"][0]["devices"] == ["cpu", "a GPU"]
  assert "has no rows" in error_of("compare_machines", f"--folders={tmp_path}/one,{tmp_path}")


def test_open_protocol_scores_what_no_published_one_does():
  assert protocols.of_target("hdm05_mocap/wild_rig_gt") is protocols.OPEN
  assert protocols.of_target("mpi_inf_3dhp/vnect").name == "3dhp"
  assert [len(score.joints) for score in protocols.OPEN.scores] == [17, 17, 17, 17, 15]
