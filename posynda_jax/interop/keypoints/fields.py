"""Names of columns, fields and arrays, in any case and with any signs: frames, times, people, joints, videos."""

import functools
import re
from collections.abc import Iterable
from typing import Any

MAX_KEY, MAX_KEYS = 100, 64  # letters of a key that may be a name, and keys of an entry that is remembered
_ID = "(id|idx|index|no|nr|num|number)"
_WHO = "(person|people|player|track|tracking|instance|object|obj|subject|skeleton|body|human|individual)"
_JOINT = "(joint|keypoint|kpt?|landmark|lm|bodypart|part|point|marker)"
# Patterns for a key without signs.
TIME = r"(time|timestamp|ts|t|seconds?|secs?|milliseconds?|ms)(s|secs?|seconds?|ms|msec|us|ns)?"
FRAME = r"(video)?frame(s|no|nr|num|nums|number|numbers|id|ids|idx|index|indexes|indices|count|counter|name)?"
IMAGE = r"(image|img|file)(s|ids?|names?|paths?|filenames?)?|path"
# Of one frame, in the order in which they count: totals such as frame_count stand beside numbers, and ms is a duration.
FRAME_OF_ENTRY = (
    "(video)?frame(id|idx|index|number|no|nr)?", "(image|img)(id|idx|index|number|num|no|nr)",
    "imagename|(video)?frame(name|num|count|counter)")
IMAGE_OF_ENTRY = (  # (names of fields, form of their values): of images, and of numbers where the field says image
    ("(image|img|frame|file)?(name|path|file|filename|url)?", r"(?i)\.(jpe?g|png|bmp|webp|tiff?)$"),
    ("(image|img)(name|path|file|filename)?", r"(?i)^(.*/)?((frame|image|img)[-_ ]?)?\d+$"))
TIME_OF_ENTRY = "(time|timestamp|ts|t)(s|secs?|seconds?|ms|msec|us|ns)?"
PERSON = (rf"{_WHO}{_ID}?(s|name)?", "id|idx|pid|tid")
JOINT = (rf"{_JOINT}s?(name|label)?", rf"{_JOINT}{_ID}", "name", "id|idx|index")
NAMES = rf"{_JOINT}s?(names|labels)|bodyparts"  # of a list of all joints' names
NUMBER = (int, float)
VIDEO = "(video|vid|clip|camera|cam|trial|take|sequence|session|recording)(name|id|path|file)?"
MOVIES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mts")


def matches(key: str, pattern: str) -> bool:
  """Whether a key has one of the names. Signs, spaces and case do not count."""
  return len(key) <= MAX_KEY and re.fullmatch(pattern, re.sub(r"[\W_]", "", key.lower())) is not None


def first(entry: dict, *patterns: str, of: type | tuple[type, ...], form: str = "") -> Any:
  """The value of the first pattern's first key with a value of type `of` that is not empty, and whose text has the
  `form`; None without one.
  """
  order = keys(entry, *patterns)
  values = (entry[key] for key in order if entry[key] not in (None, "") and is_a(entry[key], of))
  return next((value for value in values if not form or re.search(form, str(value))), None)


def keys(entry: Iterable[str], *patterns: str) -> list[str]:
  """The keys of an entry that match, in the order of the patterns."""
  names = tuple(entry)
  is_small = len(names) <= MAX_KEYS and max(map(len, names), default=0) <= MAX_KEY  # as joints and people are
  return _order_of_many(names, patterns) if is_small else _order(names, patterns)


def _order(keys: tuple[str, ...], patterns: tuple[str, ...]) -> list[str]:
  """The keys that match, in the order of the patterns."""
  return [key for pattern in patterns for key in keys if matches(key, pattern)]


_order_of_many = functools.lru_cache(256)(_order)  # joints of a file have the same keys


def places(names: Iterable[str], *patterns: str) -> list[int]:
  """The places of names that match, in the order of the patterns."""
  names = list(names)
  return [i for pattern in patterns for i, name in enumerate(names) if matches(name, pattern)]


def is_number(value: Any) -> bool:
  """Whether a value is a number; true and false are none."""
  return is_a(value, NUMBER)


def is_a(value: Any, of: type | tuple[type, ...]) -> bool:
  """Whether a value is of a type; true and false are of none."""
  return isinstance(value, of) and not isinstance(value, bool)
