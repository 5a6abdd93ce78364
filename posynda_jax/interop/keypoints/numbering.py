"""Frame numbers of files and images by their names, and of numbers that a detector wrote.

The frame is the number that varies from name to name, wherever it stands: 440 of `cam1.0440.json`, 7 of
`walk_007_cam2.png`. Names that differ elsewhere belong to several videos. Several numbers may be one time, as in
`frame_12.533s.json`. Random words, as programs for labelling put before names, are no part of them.
"""

import collections
import datetime
import os
import re
import string
from collections.abc import Iterable, Sequence

import numpy as np

MAX_FRAME = 10**9
_TAILS = re.compile(r"(?:_keypoints|_rendered|_predictions?)?(?:\.[A-Za-z][A-Za-z0-9]{0,4})?$")  # endings of names
_HASH = re.compile(r"(?:_(?:jpe?g|png))?\.rf\.[0-9a-f]{8,}")  # that Roboflow adds
_WORD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-z]+", re.IGNORECASE)  # a UUID is one word
_HEX = re.compile(r"[0-9a-f-]{6,}", re.IGNORECASE)
_MANY = 20  # forms of names or of hex digits, from which most need not be different for them to be random
_TIME = re.compile(  # 0:00:01.04, 1 day, 0:00:01, 2024-05-01T10:00:00.04+02:00
    r"(?:(\d{4}-\d\d-\d\d)[T ]|(\d{1,6}) days?,? )?(\d\d?):(\d\d):(\d\d(?:[.,]\d+)?)(?: ?(?:Z|UTC|[-+]\d\d:?\d\d))?")
_DAY_0 = datetime.date(1900, 1, 1)  # which Python gives to times without a date
_LEAST_STEPS = 3  # that show that only every n-th frame was detected
_LONGEST = 1000  # step between numbers of successive frames
_LEAST_STAMP, _MOST_STAMP = 8, 125  # ms between frames of 125 and 8 frames a second
_UNITS = (1, 1e3, 1e6, 1e9)  # of time in a second
_CLOCK = (60, 24, 25, 30, 50, 100, 1000, 10**6, 10**9)  # counts after which the number before goes up


def natural(name: str) -> list:
  """Key that sorts `clip_2` before `clip_10`."""
  return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d{1,18})", name)]


def videos(names: Iterable[str]) -> dict[str, dict[str, int]]:
  """{video: {name: frame}} of the names of files or images; one video has the name "".

  Names of which hardly two are alike but for numbers are numbered from 0 in their own order, and names that repeat a
  frame in natural order. Folders count where two of them hold the same name.
  """
  by_text, stems = collections.defaultdict(dict), _stems(names)
  for read in (_seconds, _base16):
    if (frames := read(list(stems.values()))) is not None:
      return {"": dict(zip(stems, frames.tolist(), strict=True))}
  stems = _without_hashes(stems)
  for name, stem in stems.items():
    by_text[re.sub(r"\d+", "#", stem)][name] = [int(number[-18:]) for number in re.findall(r"\d+", stem)]
  if len(by_text) == len(stems) or len(by_text) > max(2 / 3 * len(stems), _MANY):  # hardly two names are alike
    start = len(os.path.commonprefix([*stems.values()]).rstrip(string.digits))
    numbers = {int(found[0]) for stem in stems.values() if (found := re.match(r"\d{1,18}", stem[start:]))}
    are_counted = len(numbers) == len(stems)  # by the first number after what is common
    ordered = sorted(stems, key=lambda name: natural(stems[name])) if are_counted else stems
    return {"": {name: i for i, name in enumerate(ordered)}}
  found: dict[str, dict[str, int]] = {}
  for text, numbers in by_text.items():
    found |= _split(text, numbers, stems)
  if all(len(frames) == 1 for frames in found.values()):
    found = {"": {name: i for i, name in enumerate(sorted(stems, key=lambda name: natural(stems[name])))}}
  if len(found) == 1:
    return {"": next(iter(found.values()))}
  return dict(sorted(found.items()))


def have_numbers(names: Iterable[str]) -> bool:
  """Whether most names hold a number, apart from random words, and differ without these."""
  stems = _stems(names)
  if _base16([*stems.values()]) is not None:
    return True
  stems = _without_hashes(stems).values()
  return sum(map(bool, map(re.compile(r"\d").search, stems))) > len(stems) / 2 < len(set(stems))


def _stems(names: Iterable[str]) -> dict[str, str]:
  """{name: its text without folders and endings}; with folders where two of them hold the same name."""
  paths = {name: name.replace("\\", "/") for name in names}
  files = {name: path.rpartition("/")[2] for name, path in paths.items()}
  if len(set(files.values())) < len(files):
    files = {name: path.replace("/", "_") for name, path in paths.items()}
  return {name: _TAILS.sub("", _HASH.sub("", file)) for name, file in files.items()}


def _without_hashes(stems: dict[str, str]) -> dict[str, str]:
  """{name: text} without a first or last word of random hex digits, another one in each name, as Label Studio's."""
  for place in (0, -1):
    words = {name: words[place] for name, stem in stems.items() if (words := [*_WORD.finditer(stem)])}
    words = {name: word for name, word in words.items() if _HEX.fullmatch(word[0])}
    known = {word[0].lower() for word in words.values()}
    forms = {re.sub(r"\d", "#", word) for word in known}  # of face01 and face02 there is one
    if len({*map(len, known)}) == 1 and len(words) >= 0.9 * len(stems) and len(known) > 0.9 * len(words) and (
        1 < len(forms) > min(2 / 3 * len(known), _MANY)):
      stems = stems | {name: stems[name][: word.start()] + stems[name][word.end() :] for name, word in words.items()}
  return stems


def as_time(text: str) -> float | None:
  """Seconds, from any start, of a time h:m:s or a date and time of ISO 8601; None for other text."""
  if not (found := _TIME.fullmatch(text.strip())):
    return None
  date, days, *clock = found.groups()
  try:
    whole = (datetime.date.fromisoformat(date) - _DAY_0).days if date else int(days or 0)
  except ValueError:  # no day of the calendar
    return None
  hours, minutes, seconds = (float(part.replace(",", ".")) for part in clock)
  return 86400.0 * whole + 3600 * hours + 60 * minutes + seconds


def _base16(stems: list[str]) -> np.ndarray | None:
  """The frames [names] of names that count in base 16, as 0099, 009a and 009b; None for others."""
  start, end = (len(os.path.commonprefix(texts).rstrip(string.digits)) for texts in (
      stems, [stem[::-1] for stem in stems]))
  digits = [stem[start : len(stem) - end] for stem in stems]
  if not all(one and set(one) <= set(string.hexdigits) for one in digits) or (
      len({one[-1].isdigit() for one in digits}) < 2):  # the last digit counts beyond 9
    return None
  numbers = [int(one, 16) for one in digits]
  is_count = len(set(numbers)) == len(numbers) and max(numbers) - min(numbers) < 2 * len(numbers)
  return np.array(numbers) if is_count and max(numbers) <= MAX_FRAME else None


def _split(text: str, numbers: dict[str, list[int]], stems: dict[str, str]) -> dict[str, dict[str, int]]:
  """{video: {name: frame}} of names that differ in their numbers alone."""
  table = np.array(list(numbers.values()), np.int64).reshape(len(numbers), -1)
  if not table.size:
    return {text: {name: i for i, name in enumerate(numbers)}}
  if (clock := _clock(table)) is not None:
    return {"": dict(zip(numbers, clock.tolist(), strict=True))}
  column = _frame_column(table)
  if _is_one_video(table, column):
    table = table[:, [column]]
    text, column = "#", 0
  found: dict[str, dict[str, int]] = collections.defaultdict(dict)
  for name, row in zip(numbers, table, strict=True):
    shown = ["" if i == column else str(number) for i, number in enumerate(row)]
    video = "".join(part + number for part, number in zip(text.split("#"), [*shown, ""], strict=True))
    found[video.strip("_-. ")][name] = int(row[column])
  for video, frames in found.items():
    if len(set(frames.values())) < len(frames) or max(frames.values()) > MAX_FRAME:
      found[video] = {name: i for i, name in enumerate(sorted(frames, key=lambda name: natural(stems[name])))}
  return found


def _seconds(stems: list[str]) -> np.ndarray | None:
  """The frames [names] of names that differ in a time in seconds, with different numbers of decimals as in 0.04, 0.2
  and 1; None for others. Steps are even up to the last decimal.
  """
  found = [re.fullmatch(r"(\D*)(\d+(?:\.(\d+))?)(\D*)", stem) for stem in stems]
  if len(stems) < _LEAST_STEPS or not all(found) or len({(one[1], one[4]) for one in found}) > 1:
    return None
  decimals = {len(one[3] or "") for one in found}
  times = np.array([float(one[2]) for one in found])
  steps = np.diff(np.sort(times))
  usual = np.median(steps)
  off = np.abs(steps - usual * np.round(steps / max(usual, 1e-9))).max()
  even = len(decimals) > 1 and steps.min() > usual / 2 and off <= max(0.2 * usual, 1.01 * 10.0 ** -max(decimals))
  return from_times(times, "names")[0] if even else None


def _clock(table: np.ndarray) -> np.ndarray | None:
  """The frames [names] of numbers [names columns] that are a time, as 12.533 and 13.001 s; None for others.

  Each number goes up where the next one starts again, without a gap, or with one that fits milliseconds. Videos that
  all count from one number are no time, unless they have steps as milliseconds have.
  """
  varying = [column for column in range(table.shape[1]) if len(np.unique(table[:, column])) > 1]
  order = np.lexsort(table[:, varying[::-1]].T) if len(varying) > 1 else []
  rows = table[order][:, varying]
  if len(varying) < 2 or len(np.unique(rows[:, :-1], axis=0)) > len(rows) / 2:
    return None
  carries = (np.diff(rows[:, :-1], axis=0) != 0).any(-1)
  starts = rows[np.r_[True, carries], -1]
  counts = _CLOCK if (starts != starts[0]).any() else [count for count in _CLOCK if count >= _LONGEST]
  if np.median(np.diff(rows[:, -1])) == 1 and counts is not _CLOCK:
    return None
  time, weight = rows[:, -1].astype(float), 1.0
  for column in reversed(range(len(varying) - 1)):
    inside = (np.diff(rows[:, :column], axis=0) == 0).all(-1)
    carries = inside & (np.diff(rows[:, column]) != 0)
    for count in counts if weight == 1 else _CLOCK[:2]:
      steps = np.diff(whole := rows[:, column] * weight * count + time)
      if rows[:, column + 1].max() < count and inside.any() and 0 < steps[inside].min() and _run_on(
          steps[carries], steps[inside], counts is _CLOCK and weight * count % 1000 == 0):
        time, weight = whole, weight * count
        break
    else:
      return None
  return from_times(time, "names")[0][np.argsort(order)]


def _run_on(across: np.ndarray, inside: np.ndarray, are_ms: bool) -> bool:
  """Whether steps `across` two numbers of a time are like those `inside` of one. Milliseconds may lack up to a second
  where their steps are even.
  """
  close = 1.5 * np.median(inside)
  usual = inside[inside <= close].mean()
  gaps = across[across > close]
  fit = np.abs(gaps - usual * np.round(gaps / usual)) <= 2
  return not len(gaps) or are_ms and _LEAST_STAMP <= usual <= _MOST_STAMP and bool((fit & (gaps < 1000)).all())


def _is_one_video(table: np.ndarray, column: int) -> bool:
  """Whether the numbers in `column` of [names columns] run on where others change, as a count of people does."""
  order = np.argsort(table[:, column], kind="stable")
  frames, others = table[order, column], np.delete(table, column, 1)[order]
  steps, changes = np.diff(frames), (np.diff(others, axis=0) != 0).any(-1)
  if not changes.any() or (steps == 0).any() or len(np.unique(others, axis=0)) == len(others):
    return False
  return bool(np.median(steps[changes]) <= 2 * np.median(steps))


def _frame_column(table: np.ndarray) -> int:
  """The column of the frame among the numbers [names columns] in names."""
  varying = [column for column in range(table.shape[1]) if len(np.unique(table[:, column])) > 1]
  if not varying:
    return table.shape[1] - 1
  alone = [column for column in varying if len(np.unique(table[:, column])) == len(table)]
  if alone:  # every name has its own number here; of several such columns, the one that counts by ones
    return max(alone, key=lambda column: (np.diff(np.sort(table[:, column])) == 1).mean())

  def num_videos(column):
    return len(np.unique(table[:, [other for other in varying if other != column]], axis=0))

  return min(reversed(varying), key=num_videos)


def from_times(times, label, unit: float | None = None) -> tuple[np.ndarray, float | None]:
  """(frames from 0, frame rate) of time stamps [n] in any order, of which a second has `unit`; None: the usual step
  tells s, ms, µs or ns.

  Raises ValueError for stamps that lie too far apart.
  """
  times = np.asarray(times, float)
  distinct = np.unique(times)
  steps = np.diff(distinct)
  if not len(steps):
    return np.zeros(len(times), np.int64), None
  usual = float(np.median(steps))
  counts = np.maximum(np.round(steps / usual), 1)
  if not counts.sum() < MAX_FRAME:
    span = f"time stamps from {distinct[0]:g} to {distinct[-1]:g}, most {usual:g} apart"
    raise ValueError(f"{label} has {span}: not of one video? number the frames one by one")
  frames = np.cumsum(np.r_[0, counts]).astype(np.int64)
  unit = unit or next((unit for unit in _UNITS if usual / unit <= 1), _UNITS[-1])
  rate = unit * float(counts.sum() / steps.sum())
  return frames[np.searchsorted(distinct, times)], rate if rate > 1 else None  # by ones: numbers of frames


def count(
    numbers: Sequence[int] | np.ndarray, label, listed: int | None = None
) -> tuple[np.ndarray, float | None, int]:
  """(frame numbers, frame rate or None, n) of the numbers [n] that a detector wrote, in any order.

  Numbers that grow by ones, or a little faster, are frames and stay. Where all steps are multiples of n, only every
  n-th frame was detected: frames are counted among these. Other large steps are time stamps, which become consecutive
  frames with their rate. `listed` frames that fill the whole span have gaps and no steps. Raises ValueError for ids of
  images.
  """
  numbers = np.asarray(numbers, np.int64)
  distinct = np.unique(numbers)
  steps = np.diff(distinct)
  usual = int(np.sort(steps)[len(steps) // 2]) if len(steps) else 1
  if usual <= 1 or (listed or 0) > distinct[-1] - distinct[0]:
    return numbers, None, 1
  even = len(steps) >= _LEAST_STEPS and not (steps % usual).any()
  if even and usual <= _LONGEST:
    return numbers // usual, None, usual
  if steps.mean() <= _LEAST_STAMP or usual <= _LONGEST and len(steps) < _LEAST_STEPS:
    return numbers, None, 1
  regular = np.abs(steps - usual * np.maximum(np.round(steps / usual), 1)) <= max(1.0, 0.1 * usual)
  if regular.mean() < 0.8 or usual > _LONGEST and (len(steps) < _LEAST_STEPS or not regular.all()):
    span = f"{len(distinct):,} frames numbered from {distinct[0]:,} to {distinct[-1]:,}"
    raise ValueError(
        f"{label} has {span}, at irregular steps: ids of images and not frames of a video? number them one by one")
  frames, rate = from_times(numbers, label)
  return frames, rate if rate and 1000 / _MOST_STAMP <= rate <= 1000 / _LEAST_STAMP else None, 1
