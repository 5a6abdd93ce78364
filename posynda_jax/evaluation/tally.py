"""Sums of frame scores by label, and a protocol's result as a row for JSON and as a table.

Sums and weights are float64 on the host, so the order and size of batches change nothing. Frames that are not valid
are not counted. Row and table hold the protocol and the counts.
"""

import numpy as np

from posynda_jax.evaluation import protocols


class Tally:
  """Frames and sums of frame scores for each group of the protocol's groupings."""

  def __init__(self, protocol: protocols.Protocol):
    self.protocol = protocol
    self._sums = {grouping.name: {} for grouping in protocol.groupings}  # group -> [frames, the sum of each score]

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
    for grouping in self.protocol.groupings:
      of_frames = np.broadcast_to(np.asarray(labels[grouping.label]).astype(str), keep.shape)[keep]
      found, places = np.unique(of_frames, return_inverse=True)
      rows = np.stack([np.bincount(places, each) for each in (np.ones(len(values[0])), *values)], -1)
      sums = self._sums[grouping.name]
      for label, row in zip(found.tolist(), rows, strict=True):
        if grouping.members is not None and label not in grouping.members:
          raise ValueError(f"{grouping.label} {label!r} is unknown to protocol {self.protocol.name}, expected one of "
                           f"{', '.join(grouping.members)}")
        group = grouping.members[label] if grouping.members else label
        sums[group] = sums.get(group, 0) + row

  def _named(self, values: np.ndarray) -> dict[str, float]:
    return {score.name: float(value) for score, value in zip(self.protocol.scores, values, strict=True)}

  def row(self) -> dict:
    """Headline, averages, groups, counts and protocol, as JSON. Raises ValueError without a valid frame."""
    if not all(self._sums.values()):
      raise ValueError("no valid frame to score: check the split and its `valid` flags")
    groups = {}  # in the order of the grouping's members
    for grouping in self.protocol.groupings:
      sums = self._sums[grouping.name]
      order = dict.fromkeys(grouping.members.values()) if grouping.members else sorted(sums)
      groups[grouping.name] = {name: sums[name] for name in order if name in sums}
    averaged = self.protocol.groupings[0]
    sums = np.stack(list(groups[averaged.name].values()))
    frames = int(sums[:, 0].sum())
    averages = {f"mean_of_{averaged.name}s": (sums[:, 1:] / sums[:, :1]).mean(0), "pooled": sums[:, 1:].sum(0) / frames}
    shown = {name: self._named(averages[name]) for name in self.protocol.averages}
    return {
        "result": shown[self.protocol.averages[0]], "averages": shown,
        "groups": {
            name: {member: {"frames": int(row[0]), **self._named(row[1:] / row[0])} for member, row in members.items()}
            for name, members in groups.items()
        },
        "missing": [name for name in (averaged.members or {}).values() if name not in groups[averaged.name]],
        "counts": {"frames": frames, **{name: len(members) for name, members in groups.items()}},
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
