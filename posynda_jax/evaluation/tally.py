"""Sums of frame scores by label, and a protocol's result as a row for JSON and as a table.

Sums and weights are float64 on the host, so the order and size of batches change nothing. Frames that are not valid
are not counted. Row and table hold the protocol and the counts.
"""

import numpy as np

from posynda_jax.evaluation import protocols


class Tally:
  """Sums and weights of frame scores for each label that the protocol groups by."""

  def __init__(self, protocol: protocols.Protocol):
    self.protocol = protocol
    self._labels = tuple(dict.fromkeys(grouping.label for grouping in protocol.groupings))
    self._cells: dict[tuple[str, ...], np.ndarray] = {}  # label values -> frames, then the sum of each score

  def add(self, scores: dict, valid, labels: dict) -> None:
    """Adds the frames where `valid` [*b] is not 0. `scores` and `labels` are arrays [*b], or broadcast to it.

    Raises ValueError for a score that is not finite in a valid frame, and for a label that the protocol lacks.
    """
    keep = np.asarray(valid) > 0
    if not keep.any():
      return
    values = np.stack([np.asarray(scores[score.name], np.float64)[keep] for score in self.protocol.scores])
    if bad := (~np.isfinite(values)).any(0).sum():
      raise ValueError(f"{bad} valid frames have scores that are not finite: the poses are not finite")
    of_frames = [np.broadcast_to(np.asarray(labels[name]).astype(str), keep.shape)[keep] for name in self._labels]
    keys, cell = np.unique(np.stack(of_frames, -1), axis=0, return_inverse=True)
    sums = np.stack([np.bincount(cell.ravel(), v) for v in (np.ones(len(values[0])), *values)], -1)
    for key, row in zip(map(tuple, keys.tolist()), sums, strict=True):
      for grouping in self.protocol.groupings:
        self._member(grouping, key)
      self._cells[key] = self._cells.get(key, 0) + row

  def _member(self, grouping: protocols.Grouping, key: tuple[str, ...]) -> str:
    """The group of a cell's label values. Raises ValueError that lists the known ones."""
    value = key[self._labels.index(grouping.label)]
    if grouping.members is None:
      return value
    if value not in grouping.members:
      known = ", ".join(grouping.members)
      raise ValueError(
          f"{grouping.label} {value!r} is unknown to protocol {self.protocol.name}, expected one of {known}")
    return grouping.members[value]

  def _by(self, grouping: protocols.Grouping) -> dict[str, np.ndarray]:
    """Sums by group, in the order of the grouping's members."""
    found: dict[str, np.ndarray] = {}
    for key, row in sorted(self._cells.items()):
      name = self._member(grouping, key)
      found[name] = found.get(name, 0) + row
    order = grouping.members.values() if grouping.members else found
    return {name: found[name] for name in order if name in found}

  def _named(self, values: np.ndarray) -> dict[str, float]:
    return {score.name: float(value) for score, value in zip(self.protocol.scores, values, strict=True)}

  def row(self) -> dict:
    """Headline, averages, groups, counts and protocol, as JSON. Raises ValueError without a valid frame."""
    if not self._cells:
      raise ValueError("no valid frame to score: check the split and its `valid` flags")
    groups = {grouping.name: self._by(grouping) for grouping in self.protocol.groupings}
    averaged = self.protocol.groupings[0]
    sums = np.stack(list(groups[averaged.name].values()))
    frames, means = sums[:, 0], sums[:, 1:] / sums[:, :1]
    averages = {
        f"mean_of_{averaged.name}s": means.mean(0), "frame_weighted": np.average(means, axis=0, weights=frames),
        "pooled": sums[:, 1:].sum(0) / frames.sum(),
    }
    shown = {name: self._named(averages[name]) for name in self.protocol.averages}
    return {
        "result": shown[self.protocol.averages[0]],
        "averages": shown,
        "groups": {
            name: {member: {"frames": int(row[0]), **self._named(row[1:] / row[0])} for member, row in members.items()}
            for name, members in groups.items()
        },
        "missing": [name for name in (averaged.members or {}).values() if name not in groups[averaged.name]],
        "counts": {"frames": int(frames.sum()), **{name: len(members) for name, members in groups.items()}},
        "protocol": self.protocol.describe(),
    }


def table(row: dict) -> str:
  """A result as text: groups, averages (the headline first), counts and protocol."""
  names, counts, protocol = list(row["result"]), row["counts"], dict(row["protocol"])
  shown = [(kind, name, values) for kind, members in row["groups"].items() for name, values in members.items()]
  for i, (name, values) in enumerate(row["averages"].items()):
    shown.append(("average" if i else "headline", name, {"frames": counts["frames"], **values}))
  lines = [f"{'frames':>52}" + "".join(f"{name:>13}" for name in names)]
  for kind, name, values in shown:
    lines.append(f"{kind:15}{name:28}{values['frames']:>9,}" + "".join(f"{values[score]:>13.2f}" for score in names))
  if row["missing"]:
    lines.append(f"incomplete: no frame of {', '.join(row['missing'])}")
  lines.append("counts: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
  lines += [f"records: {name} {', '.join(values)}" for name, values in row.get("records", {}).items()]
  lines += [f"{name}: {meaning}" for name, meaning in protocol.pop("scores").items()]
  return "\n".join([*lines, "protocol: " + ", ".join(f"{name}={value}" for name, value in protocol.items())])
