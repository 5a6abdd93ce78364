"""Frame scores summed by label, and the result of a protocol as a row for JSON and as a table.

Sums and weights are float64 on the host: neither the order nor the size of batches matters, and frames that are not
valid never count. Row and table both carry the protocol and the counts.
"""

import numpy as np

from posynda_jax.evaluation import protocols


class Tally:
  """Sums and weights of frame scores, by the labels that the protocol groups by."""

  def __init__(self, protocol: protocols.Protocol):
    self.protocol = protocol
    self._labels = tuple(dict.fromkeys(grouping.label for grouping in protocol.groupings))
    self._cells: dict[tuple[str, ...], np.ndarray] = {}  # label values -> frames, then the sum of each score

  def add(self, scores: dict, valid, labels: dict) -> None:
    """Counts the frames where `valid` [*b] is not 0; `scores` and `labels` are arrays [*b], or broadcast to it.

    Raises ValueError for a score that is not finite in a valid frame, and for a label that the protocol does not know.
    """
    keep = np.asarray(valid) > 0
    if not keep.any():
      return
    values = np.stack([np.asarray(scores[score.name], np.float64)[keep] for score in self.protocol.scores])
    if not np.isfinite(values).all():
      raise ValueError(f"{(~np.isfinite(values)).any(0).sum()} valid frames have scores that are not finite: the poses are not")
    of_frames = [np.broadcast_to(np.asarray(labels[name]).astype(str), keep.shape)[keep] for name in self._labels]
    keys, cell = np.unique(np.stack(of_frames, -1), axis=0, return_inverse=True)
    sums = np.stack([np.bincount(cell.ravel(), v) for v in (np.ones(len(values[0])), *values)], -1)
    for key, row in zip(map(tuple, keys.tolist()), sums, strict=True):
      self._check(key)
      self._cells[key] = self._cells.get(key, 0) + row

  def _check(self, key: tuple[str, ...]) -> None:
    for grouping in self.protocol.groupings:
      value = key[self._labels.index(grouping.label)]
      if grouping.members is not None and value not in grouping.members:
        known = ", ".join(grouping.members)
        raise ValueError(f"{grouping.label} {value!r} is unknown to protocol {self.protocol.name}, expected one of {known}")

  def _by(self, grouping: protocols.Grouping) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for key, row in sorted(self._cells.items()):
      value = key[self._labels.index(grouping.label)]
      name = value if grouping.members is None else grouping.members[value]
      found[name] = found.get(name, 0) + row
    order = found if grouping.members is None else dict.fromkeys(grouping.members.values())
    return {name: found[name] for name in order if name in found}

  def row(self) -> dict:
    """The result: headline, every average, every group, counts and protocol. Raises ValueError without a valid
    frame.
    """
    if not self._cells:
      raise ValueError("no valid frame to score: check the split and its `valid` flags")
    groups = {grouping.name: self._by(grouping) for grouping in self.protocol.groupings}
    averaged = self.protocol.groupings[0]
    first = np.stack(list(groups[averaged.name].values()))
    means = first[:, 1:] / first[:, :1]
    averages = {
        f"mean_of_{averaged.name}s": means.mean(0),
        "frame_weighted": np.average(means, axis=0, weights=first[:, 0]),
        "pooled": first[:, 1:].sum(0) / first[:, 0].sum(),
    }
    named = lambda values: {score.name: float(v) for score, v in zip(self.protocol.scores, values, strict=True)}
    frames = int(first[:, 0].sum())
    return {
        "result": named(averages[self.protocol.averages[0]]),
        "averages": {name: named(averages[name]) for name in self.protocol.averages},
        "groups": {
            name: {member: {"frames": int(row[0]), **named(row[1:] / row[0])} for member, row in members.items()}
            for name, members in groups.items()
        },
        "missing": [name for name in (averaged.members or {}).values() if name not in groups[averaged.name]],
        "counts": {"frames": frames, **{name: len(members) for name, members in groups.items()}},
        "protocol": self.protocol.describe(),
    }


def table(row: dict) -> str:
  """A result as text: groups, averages (the headline first), counts and protocol."""
  names = list(row["result"])
  line = lambda kind, name, frames, values: f"{kind:15}{name:28}{frames:>9,}" + "".join(f"{values[n]:>13.2f}" for n in names)
  lines = [f"{'':15}{'':28}{'frames':>9}" + "".join(f"{name:>13}" for name in names)]
  for kind, members in row["groups"].items():
    lines += [line(kind, name, values["frames"], values) for name, values in members.items()]
  for i, (name, values) in enumerate(row["averages"].items()):
    lines.append(line("average" if i else "headline", name, row["counts"]["frames"], values))
  if row["missing"]:
    lines.append(f"incomplete: no frame of {', '.join(row['missing'])}")
  lines.append("counts: " + ", ".join(f"{name} {count:,}" for name, count in row["counts"].items()))
  lines += [f"records: {name} {', '.join(values)}" for name, values in row.get("records", {}).items()]
  protocol = dict(row["protocol"])
  lines += [f"{name}: {meaning}" for name, meaning in protocol.pop("scores").items()]
  return "\n".join(lines + ["protocol: " + ", ".join(f"{k}={v}" for k, v in protocol.items())])
