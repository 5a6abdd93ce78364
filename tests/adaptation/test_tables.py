"""Tables: rows are whole recipes that tables share, means and closures are right, and what is there is not trained."""

import dataclasses
import json
import pathlib
from concurrent import futures

import pytest

from posynda_jax.adaptation import adapters, bases, job, recipes, rows, table_job, tables
from posynda_jax.evaluation import scoring
from posynda_jax.runtime import loop
from tests.adaptation.test_job import SOURCE, SPLITS, TARGET
from tests.scripts import error_of, run_well

TABLES = rows.make_tables()
BUDGET = rows.Budget(clips=8, updates=2)
ONLY = "source-only|LoRA|PoSynDA"  # of Table 3: two rows that are trained


def row_of(table: str, name: str, made=TABLES) -> rows.Row:
  return next(row for row in made[table].rows if row.name == name)


def test_the_rows_of_a_table_differ_and_each_can_be_scored():
  for name, table in TABLES.items():
    assert len({row.name for row in table.rows}) == len(table.rows), name
    assert len({repr(dataclasses.replace(row, name="", paper=None)) for row in table.rows}) == len(table.rows), name
    for row in table.rows:
      test = scoring.SamplingConfig(**row.test)
      assert test.num_hypotheses == 1 or "select" in row.test  # a result of several hypotheses is found by its rule


def test_tables_share_the_papers_row_and_the_components_differ_by_one_thing_each():
  ours = row_of("5", "PoSynDA").recipe
  assert ours == recipes.get("posynda", **dataclasses.asdict(rows.Budget()))
  assert ours == row_of("6", "H = 3").recipe == row_of("7", "r = 4").recipe
  names = ("+ F", "+ LoRA", "+ cross-dataset embedding", "+ multi-hypothesis: PoSynDA")
  full, lora, biased, whole = (recipes.describe(row_of("3", name).recipe) for name in names)
  assert whole == recipes.describe(ours)
  differences = [
      {key for key, value in one.items() if value != other[key]}
      for one, other in ((full, lora), (lora, biased), (biased, whole))
  ]
  assert differences == [{"adapter", "rate"}, {"adapter"}, {"lessons"}]
  assert full["adapter"]["tune"] == "full" and not lora["adapter"]["bias"] and biased["adapter"]["bias"]


def test_rows_of_the_open_benchmark_are_the_recipes_of_their_names_and_each_is_also_guarded():
  by_name = {row.name: row for row in TABLES["open"].rows}
  for name, recipe in {
      "novel views, source-free": recipes.get("free", rate=rows.Budget.rate),
      "as seen and novel views": recipes.get("novel"), rows.CEILING: recipes.get("ceiling"),
  }.items():
    assert by_name[name].recipe == recipe, name
  plain = [row for row in by_name.values() if row.recipe and row.name != rows.CEILING and not row.guarded]
  for row in plain:
    assert dataclasses.replace(by_name[f"{row.name}, guarded"], name=row.name, guarded=False) == row


def result(mpjpe: float) -> dict:
  protocol = {
      "dataset": "a/b", "split": "test", "keypoints_2d": "gt", "protocol": "open_mocap", "headline": "pooled"}
  return {
      "scores": {"mpjpe_mm": mpjpe, "p_mpjpe_mm": mpjpe / 2}, "trainable": 7, "flops": 10**9, "frames": 5, "base": "b",
      "seconds": 2.0, "device": "cpu", "run": "rows/x", "groups": {}, "protocol": protocol}


def test_means_deviations_and_closure():
  names = [row.name for row in TABLES["3"].rows]
  found = {names[0]: [100.0], names[2]: [60.0, 64.0, 62.0], names[-1]: [50.0, 52.0]}
  found = {name: list(map(result, values)) for name, values in found.items()}
  table = tables.summarise("3", TABLES["3"], found, paper=True)
  source_only, lora, ceiling = table["rows"]
  assert lora["mean"] == {"mpjpe_mm": 62.0, "p_mpjpe_mm": 31.0} and lora["std"] == {"mpjpe_mm": 2.0, "p_mpjpe_mm": 1.0}
  assert lora["closure"] == pytest.approx(38 / 49) and source_only["std"]["mpjpe_mm"] is None
  assert "closure" not in source_only and "closure" not in ceiling
  text = tables.markdown(table)
  assert tables.markdown(json.loads(json.dumps(table, sort_keys=True))) == text  # the form of files
  cells = [cell.strip() for line in text.splitlines() for cell in line.split("|") if line.startswith("| + LoRA")]
  assert cells[1:-1] == ["+ LoRA", "62.0 ± 2.0", "31.0 ± 1.0", "78", "7", "1", "2", "61.9"]
  assert "paper's MPJPE" in text and "3 seeds" in text


@pytest.fixture(scope="module")
def made(tiny_base, data, tmp_path_factory) -> tuple[tuple[str, ...], pathlib.Path, list[str]]:
  """(flags, folder, outputs) of three rows of Table 3 that two processes made at once."""
  folder = tmp_path_factory.mktemp("tables") / "made"
  flags = (
      data, f"--base={tiny_base}", f"--workdir={folder}", f"--source={SOURCE}", f"--split={SPLITS['source_split']}",
      *(f"--{name}={SPLITS[name]}" for name in ("target_split", "test_split")), "--clips=8", "--updates=2")
  with futures.ThreadPoolExecutor() as pool:
    outputs = list(pool.map(lambda _: run_well("tables", *flags, "--table=3", f"--only={ONLY}"), range(2)))
  return flags, folder, outputs


def make_bench(made, folders, tiny_base, **settings) -> table_job.Bench:
  described = job.Job(
      recipes.get("posynda"), TARGET, str(tiny_base), SOURCE, **SPLITS, workdir=str(made[1]), folders=folders,
      saving=loop.Saving(1, 1))
  return table_job.Bench(described, **settings)


def test_two_processes_share_the_rows_and_write_the_table(made):
  _, folder, outputs = made
  assert sum(out.count("Compiling adapted") for out in outputs) == 2
  assert all("+ LoRA, seed 0: mpjpe_mm" in out for out in outputs)
  table = json.loads((folder / "table_3.json").read_text())
  source_only, lora, ours = table["rows"]
  assert source_only["trainable"] == 0 < lora["trainable"] == ours["trainable"] - 51
  assert ours["flops"] == 3 * lora["flops"] > 3 * source_only["flops"] > 0
  text = (folder / "table_3.md").read_text()
  assert "1 seed" in text
  assert text.splitlines()[2].replace(" ", "").startswith("|row|mpjpe_mm|p_mpjpe_mm|pck_percent|auc_percent|")


def test_a_row_of_another_table_is_read_and_another_seed_is_a_run_like_any_other(made, folders, tiny_base, capsys):
  made_tables = rows.make_tables(BUDGET)
  ours = row_of("4", "MixSTE, PoSynDA", made_tables)
  read = make_bench(made, folders, tiny_base, train=False)
  table = json.loads((made[1] / "table_3.json").read_text())
  assert read.run(ours, 0)["scores"]["mpjpe_mm"] == table["rows"][2]["by_seed"]["mpjpe_mm"][0]
  assert read.run(ours, 1) is None
  trained = make_bench(made, folders, tiny_base)
  found = table_job.run_rows(trained, "4", [(ours, 0), (ours, 1)])[ours.name]
  assert capsys.readouterr().out.count("Compiling adapted") == 1
  first, second = (one["scores"]["mpjpe_mm"] for one in found)
  assert first == table["rows"][2]["mean"]["mpjpe_mm"] != second
  weights = bases.load_weights(made[1] / found[1]["run"])
  assert weights.base.digest == found[1]["base"] and weights.adapter["bias"].any()
  assert adapters.num_trainable(weights.base.params, weights.config) == found[1]["trainable"]
  same = next(row for row in made_tables["8"].rows if row.name == "T = 1000, whole width")
  assert read.run(same, 0)["run"] == found[0]["run"]  # its base is the given one


def test_rows_that_differ_in_the_rule_alone_draw_their_hypotheses_once(made, folders, tiny_base):
  bench = make_bench(made, folders, tiny_base)
  three = [row for row in TABLES["5"].rows if row.name.startswith("D3DP")]
  small = [dataclasses.replace(row, test=row.test | {"num_hypotheses": 3, "sampling_steps": 2}) for row in three]
  first = bench.run(small[0], 0)
  path = made[1] / first["run"] / "scores.json"
  written = path.stat().st_mtime_ns
  found = [first, *(bench.run(row, 0) for row in small[1:])]
  assert path.stat().st_mtime_ns == written and len({one["scores"]["mpjpe_mm"] for one in found}) == 3
  assert [one["protocol"]["selection"] for one in found] == [row.test["select"] for row in small]
  rules = [json.loads(key)[1].get("select") for key in json.loads(path.read_text())]
  assert sorted(rule for rule in rules if rule) == sorted(table_job.RULES)


@pytest.mark.parametrize("flags, message", [
    (["--table=8", "--notrain", "--only=T = 500"], "--notrain finds no row of table 8"),
    (["--only=GAN"], "--only=GAN finds no row of table 3, which has source-only, + F"),
])
def test_rows_and_tables_that_do_not_exist_are_refused(flags, message, made):
  assert message in error_of("tables", *made[0], *flags)


@pytest.mark.long
def test_all_tables_in_their_smallest_form(data, tmp_path):
  networks = {"base": ("--width=32",), "videopose": ("--denoiser=videopose", "--filter_widths=3", "--channels=32")}
  for name, fields in networks.items():
    run_well("pretrain", "--plan=smoke", data, f"--workdir={tmp_path}/{name}", *fields)
  flags = (
      data, f"--base={tmp_path}/base", f"--videopose_base={tmp_path}/videopose", f"--source={SOURCE}", "--clips=8",
      *(f"--{name}={SPLITS[name]}" for name in ("target_split", "test_split")), "--updates=2")
  out = run_well("tables", *flags, f"--workdir={tmp_path}/tables", "--table=all,open", seconds=3000)
  assert {path.stem for path in (tmp_path / "tables").glob("*.md")} == {f"table_{name}" for name in TABLES}
  shared = [json.loads((tmp_path / "tables" / f"table_{name}.json").read_text()) for name in ("3", "6", "7")]
  runs = [{row["name"]: row["runs"] for row in table["rows"]} for table in shared]
  assert runs[0]["+ multi-hypothesis: PoSynDA"] == runs[1]["H = 3"] == runs[2]["r = 4"]
  assert "VideoPose, PoSynDA" in out and out.count("Compiling pretrain") == 5  # Table 8 has six bases, one is given
  trained = json.loads((tmp_path / "tables" / "bases.json").read_text())
  assert len(trained) == 5
  assert all(base["base"]["mpjpe_mm"] > 0 and base["seconds"] > 0 for base in trained.values())
