"""Scores summed by label: averages by hand and as published, whatever the batches, with protocol and counts."""

import json

import jax
import numpy as np
import pytest

from posynda_jax.datasets.human36m.tables import ACTIONS
from posynda_jax.evaluation import protocols, scoring, tally

PROTOCOLS = protocols.PROTOCOLS


def row_of(name: str, values: dict[str, list[float]], **labels) -> dict:
  """The row of frames with these values of every score, by the label of the protocol's first grouping."""
  chosen = PROTOCOLS[name]
  total = tally.Tally(chosen)
  for label, of_frames in values.items():
    scores = {score.name: np.array(of_frames) for score in chosen.scores}
    total.add(scores, np.ones(len(of_frames)), {chosen.groupings[0].label: label, **labels})
  return total.row()


def test_the_mean_of_action_means_is_not_the_frame_mean():
  row = row_of("h36m_p1", {"Walking": [10.0], "Sitting": [20.0, 20.0, 20.0]})
  assert row["result"] == row["averages"]["mean_of_actions"] == {"mpjpe_mm": 15.0}
  assert row["averages"]["pooled"] == {"mpjpe_mm": 17.5}
  assert row["counts"] == {"frames": 4, "action": 2} and "Eating" in row["missing"] and len(row["missing"]) == 13
  assert "incomplete: no frame of Directions" in tally.table(row)


def test_actions_are_matched_whole():
  row = row_of("h36m_p2", {name: [float(i)] for i, name in enumerate(ACTIONS)})
  assert [group["p_mpjpe_mm"] for group in row["groups"]["action"].values()] == list(range(15))
  assert list(row["groups"]["action"]) == list(ACTIONS) and row["result"]["p_mpjpe_mm"] == 7 and not row["missing"]
  for wrong in ("Sit", "Sitting 1", "sitting"):
    message = f"action '{wrong}' is unknown to protocol h36m_p2, expected one of Directions"
    with pytest.raises(ValueError, match=message):
      row_of("h36m_p2", {wrong: [1.0]})


def test_the_averages_of_3dhp_by_hand():
  values = {"TS1": [10.0], "TS2": [20.0] * 3, "TS3": [30.0] * 2, "TS4": [60.0], "TS5": [5.0], "TS6": [5.0]}
  row = row_of("3dhp", values, activity=3)
  averages = {name: average["mpjpe_17_mm"] for name, average in row["averages"].items()}
  pooled = pytest.approx(200 / 9)
  assert averages == {"mean_of_sequences": pytest.approx(130 / 6), "pooled": pooled}
  assert row["result"] == row["averages"]["mean_of_sequences"]
  scenes = [(group["frames"], group["mpjpe_17_mm"]) for group in row["groups"]["scene"].values()]
  np.testing.assert_allclose(scenes, [(4, 70 / 4), (3, 120 / 3), (2, 5)])  # weighted by frames, not 15, 45, 5
  assert row["groups"]["activity"] == {"Sitting": {"frames": 9, **row["averages"]["pooled"]}}


def test_invalid_frames_never_count():
  rng = np.random.default_rng(0)
  values, valid = rng.uniform(0, 100, (4, 9)), rng.random((4, 9)) > 0.4
  spoiled, chosen = {"mpjpe_mm": np.where(valid, values, np.nan)}, PROTOCOLS["h36m_p1"]
  total = tally.Tally(chosen)
  total.add(spoiled, valid.astype(np.float32), {"action": "Posing"})
  total.add({"mpjpe_mm": values}, np.zeros((4, 9)), {"action": "Eating"})
  row = total.row()
  assert row["counts"]["frames"] == valid.sum() and list(row["groups"]["action"]) == ["Posing"]
  assert row["result"]["mpjpe_mm"] == pytest.approx(values[valid].mean(), rel=1e-12)
  with pytest.raises(ValueError, match="no valid frame"):
    tally.Tally(chosen).row()
  with pytest.raises(ValueError, match=f"{(~valid).sum()} valid frames have scores that are not finite"):
    tally.Tally(chosen).add(spoiled, np.ones((4, 9)), {"action": "Posing"})


def test_neither_order_nor_size_of_batches_matters():
  rng, chosen = np.random.default_rng(1), PROTOCOLS["3dhp"]
  values = {score.name: rng.uniform(0, 100, 500).astype(np.float32) for score in chosen.scores}
  labels = {"sequence": rng.choice(["TS1", "TS4", "TS6"], 500), "activity": rng.integers(0, 8, 500)}
  valid = rng.random(500) > 0.3

  def numbers(order, size):
    total = tally.Tally(chosen)
    for i in range(0, 500, size):
      at = order[i : i + size]
      total.add({k: v[at] for k, v in values.items()}, valid[at], {k: v[at] for k, v in labels.items()})
    return jax.tree.leaves({name: total.row()[name] for name in ("result", "averages", "groups", "counts")})

  expected = numbers(np.arange(500), 500)
  for size in (1, 7, 64):
    np.testing.assert_allclose(numbers(rng.permutation(500), size), expected, rtol=1e-12)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_row_and_table_hold_protocol_and_counts_and_no_number_of_the_paper(name):
  chosen = PROTOCOLS[name]
  label = next(iter(chosen.groupings[0].members or {"downtown_walking_00": ""}))
  row = json.loads(json.dumps(row_of(name, {label: [1.0, 2.0]}, activity=1)))
  config = scoring.SamplingConfig()
  described = scoring.describe_protocol(chosen.dataset, chosen.split, 50.0, config, chosen=chosen)
  table = tally.table(row | {"protocol": described})
  for text in (f"protocol={name}", f"dataset={chosen.dataset}", f"split={chosen.split}", "frames 2", "joints", label):
    assert text in table
  assert chosen.paper.startswith("Table ") and chosen.paper not in table and chosen.paper not in str(row)
