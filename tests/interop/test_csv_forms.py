"""CSV files in the forms that people have: each gives the right point of every joint and frame, or one line why not."""

import numpy as np
import pytest

from posynda_jax.interop.keypoints import joint_names, tables
from tests.interop import detector_files as files

COCO = joint_names._COCO
FRAMES = [0, 1, 2, 5, 6, 7]  # 3 and 4 are not in the file
SEEN = files.pick(files.detect(8), files.COCO17)[FRAMES].round(3)
OTHER = files.pick(files.detect(8, 1, (1.1, 0, 4.5)), files.COCO17)[FRAMES].round(3)
BY_NUMBER, BY_NAME = sorted(range(17), key=str), sorted(range(17), key=COCO.__getitem__)  # as text is sorted
LOST = [np.nan, np.nan, 0]


def text(head, rows, sep=","):
  return "\n".join(sep.join(map(str, row)) for row in [head, *rows]) + "\n"


def names(x="{}_x", y="{}_y", score="{}_score", words=COCO):
  return [form.format(word) for word in words for form in (x, y, score)]


def wide(first="frame", head=None, order=range(17), keys=FRAMES, sep=","):
  rows = [[key, *body[list(order)].ravel().tolist()] for key, body in zip(keys, SEEN)]
  return text([first, *(head or names(words=[COCO[i] for i in order]))], rows, sep)


def beside(columns, cells, **options):
  """`wide` with more columns at the end, whose cells are equal in all rows."""
  head, *lines = wide(**options).splitlines()
  return "\n".join([f"{head},{columns}", *(f"{line},{cells}" for line in lines)])


def two(column, labels=("", "")):
  """Two people in wide form; without a `column` of labels, two rows for each frame."""
  rows = [[n, *[label] * bool(column), *seen[t].ravel().tolist()]
          for t, n in enumerate(FRAMES) for label, seen in zip(labels, (SEEN, OTHER))]
  return text(["frame", *[column] * bool(column), *names()], rows)


def long(head, row, order=range(17), lost=()):
  """A row for each joint: `row` of the frame's place, the joint and x, y, score."""
  return text(head.split(","), [row(t, i, SEEN[t, i].tolist()) for t in range(6) for i in order if (t, i) not in lost])


def deeplabcut(*seen, individuals=("",)):
  n = len(individuals)
  head = [["individuals", *np.repeat(individuals, 51)], ["bodyparts", *np.repeat(COCO, 3).tolist() * n]]
  rows = [[t, *np.concatenate([one[i].ravel() for one in seen]).tolist()] for i, t in enumerate(FRAMES)]
  return text(["scorer", *["DLC"] * 51 * n], [*head[n < 2:], ["coords", *["x", "y", "likelihood"] * 17 * n], *rows])


def labelled():
  """DeepLabCut's CollectedData: the columns before the joints are a folder, the video and the image."""
  head = [["bodyparts", "", "", *np.repeat(COCO, 3)], ["coords", "", "", *["x", "y", "likelihood"] * 17]]
  rows = [["labeled-data", "walk", f"img{t:03}.png", *SEEN[i].ravel()] for i, t in enumerate(FRAMES)]
  return text(["scorer", "", "", *["me"] * 51], [*head, *rows])


COMMAS = wide(sep=";").replace(".", ",")
CASES = {  # name -> (text of the file, part of its notes)
    "right first": (wide(order=[0, 2, 1, 4, 3, *range(5, 17)]), ""), "sorted names": (wide(order=BY_NAME), ""),
    "unknown": (wide(head=names(words="abcdefghijklmnoqr")), "have unknown names"),
    "short": (wide(head=names(words=files.COCO17)), ""),
    "numbers and a box": (beside("bbox_x,bbox_y", "9.0,8.0", head=names(words=range(17))), "passed over: bbox"),
    "x1": (wide(head=names("x{}", "y{}", "s{}", range(1, 18))), ""),
    **{f"with {head}": (beside(head, "9.0,8.0"), f"passed over: {name}") for head, name in (
        ("bbox_x,bbox_y", "bbox"), ("center_x,center_y", "center"), ("x1,y1", "1"), ("nose_w3_x,nose_w3_y", "nose_w"))},
    **{f"sorted {x}": (wide(head=names(x, x.replace("x", "y"), x.replace("x", "p"), BY_NUMBER), order=BY_NUMBER), "")
       for x in ("x_{}", "kp{}_x", "p{}_x", "{}_x")},
    **{f"form {forms[0]}": (wide(head=names(*forms)), "") for forms in (
        ("x_{}", "y_{}", "c_{}"), ("{}X", "{}Y", "{}Score"), ("{}_x_px", "{}_y_px", "{}_c"), ("{}.x", "{}.y", "{}.c"),
        ("{} (x)", "{} (y)", "{} (score)"), (" {} x", "{} y ", "{} conf"))},
    **{f"score {word}": (wide(head=names(score="{}_" + word)), "") for word in (
        "p", "accuracy", "keypoint_score", "Confidence", "visibility_score")},
    **{f"column {name!r}": (wide(name), "") for name in (
        "Frame Number", "frame_no", "Frame#", "framenum", "frameCount", "frame-id", "index", "", "#", "image_id")},
    **{f"columns {name}": (wide(name, keys=[key.format(n, 9 * n, n / 30) for n in FRAMES]), "") for name, key in (
        (",frame", "{1},{0}"), ("time_ms,frame", "{1},{0}"), ("file,frame", "a.mp4,{0}"), ("Frame#,Time", "{0},{2}"),
        ("image", "a_{0}.jpg"), ("filename", "a_{0}.jpg"), ("img_name", "{0:04}.png"), ("frame", "f{0}.jpg"))},
    **{f"times {name}": (wide(name, keys=[f"{n * unit:.4f}" for n in FRAMES]), "times were read") for name, unit in (
        ("time", 1 / 30), ("timestamp", 1 / 240), ("seconds", 1 / 25), ("frame", 1 / 30), ("timestamp_ms", 33.37))},
    **{f"long {head}": (long(head, *how), note) for note, head, *how in (
        ("", "frame,landmark,x,y,score", lambda t, i, v: [FRAMES[t], i, *v]),
        ("", "frame,joint,x,y,score", lambda t, i, v: [FRAMES[t], COCO[i], *v], BY_NAME),
        ("", "frame,landmark_name,x,y,p", lambda t, i, v: [FRAMES[t], f"Joint.{COCO[i].upper()}", *v], BY_NAME),
        ("", "frame,keypoint_id,x,y,conf", lambda t, i, v: [FRAMES[t], i, *v], BY_NUMBER),
        ("", "frame,id,x,y,z,v", lambda t, i, v: [FRAMES[t], i, *v[:2], 0, v[2]]),
        ("", "frame,id,name,x,y,c", lambda t, i, v: [FRAMES[t], i, COCO[i], *v], BY_NAME),
        ("", ",frame,part,x,y,c", lambda t, i, v: [17 * t + i, FRAMES[t], i, *v]),
        ("times were", "time,part,x,y,c", lambda t, i, v: [f"0:01:{FRAMES[t] / 30:.4f}", i, *v]))},
    "flags before scores": (text(
        ["frame", *(f"{joint}_{axis}" for joint in COCO for axis in ("x", "visible", "y", "confidence"))],
        [[t, *(cell for x, y, c in body.tolist() for cell in (x, 1, y, c))] for t, body in zip(FRAMES, SEEN)]), ""),
    "semicolons": (wide(sep=";"), ""), "decimal commas": (COMMAS, ""), "tabs": (wide(sep="\t").replace(".", ","), ""),
    "crlf": (wide().replace("\n", "\r\n"), ""), "sep=": ("sep=;\n" + COMMAS, ""), "deeplabcut": (deeplabcut(SEEN), ""),
    "labelled": (labelled(), ""), "a total first": (wide("frame_count,frame", keys=[f"900,{n}" for n in FRAMES]), ""),
    "comments": ("# fps: 30\n# a\n" + wide() + "# b\n", ""), "repeated": (wide() + wide().splitlines()[-1], ""),
    **{code: (beside("größe", "1").encode(code), "") for code in ("utf-8-sig", "utf-16", "latin-1")},
}  # fmt: skip


def read(tmp_path, content):
  path = tmp_path / "k.csv"
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  (found,) = tables.read(path)
  return found


def check(found, seen=SEEN, rows=slice(None)):
  assert found.frame[rows].tolist() == FRAMES
  np.testing.assert_allclose(np.dstack([found.points, found.scores])[rows], seen, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_a_form_gives_every_joint_of_every_frame(name, tmp_path):
  content, note = CASES[name]
  found = read(tmp_path, content)
  check(found)
  assert found.layout == "coco17" and len(found.notes) == bool(note) and note in "".join(found.notes)


@pytest.mark.parametrize("content, persons", [
    (two("person_index", (0, 1)), [0, 1]), (two("PersonID", (7, 3)), [7, 3]), (two("track", ("t_0", "t_1")), [0, 1]),
    (two("player", ("Ann", "Bo")), [0, 1]), (two("object_id", ("4.0", "5.0")), [4, 5]), (two(""), None),
    (deeplabcut(SEEN, OTHER, individuals=("a", "b")), [0, 1]),
])
def test_people_are_told_apart(content, persons, tmp_path):
  found = read(tmp_path, content)
  check(found, SEEN, slice(0, None, 2))
  check(found, OTHER, slice(1, None, 2))
  assert found.notes == () and persons == (None if found.person is None else found.person[:2].tolist())


@pytest.mark.parametrize("cell", ["", "None", "nan", "NULL"])
def test_an_empty_cell_is_a_lost_joint(cell, tmp_path):
  lines, lost = wide().splitlines(), SEEN.copy()
  cells, lost[2, 2] = lines[3].split(","), LOST
  lines[3] = ",".join([*cells[:7], cell, cell, cell, *cells[10:]])
  check(read(tmp_path, "\n".join(lines)), lost)


@pytest.mark.parametrize("words, never", [(COCO, 16), (range(17), None)])
def test_a_joint_without_a_row_is_lost(words, never, tmp_path):
  gone, lost = [(1, 4), (3, 9), (3, 10), *[(t, never) for t in range(6) if never]], SEEN.copy()
  lost[tuple(zip(*gone))] = LOST
  check(read(tmp_path, long("frame,joint,x,y,c", lambda t, i, v: [FRAMES[t], words[i], *v], BY_NAME, gone)), lost)


@pytest.mark.parametrize("layout", ["h36m17", "coco18", "body25", "mediapipe33"])
def test_names_give_their_layout(layout, tmp_path):
  place = {name: i for i, name in enumerate(joint_names._NAMES[layout][0]) if name}
  row = [value for name in sorted(place) for value in (10 + place[name], 20 + place[name], 0.5)]
  found = read(tmp_path, text(["frame", *names(words=sorted(place))], [[0, *row]]))
  used = [i for i in place.values() if i < found.points.shape[1]]
  assert found.layout == layout and found.points[0, used, 0].tolist() == [10 + i for i in used]


def test_names_that_contradict_the_given_layout_are_refused(tmp_path):
  (tmp_path / "k.csv").write_text(wide())
  with pytest.raises(ValueError, match="names of coco17, but h36m17 was given: leave --layout out"):
    tables.read(tmp_path / "k.csv", "h36m17")


@pytest.mark.parametrize("content, message", [
    ("", "has columns : expected a first line of names, like frame, x_0"),
    (wide().partition("\n")[2], r"has columns 0, .* and 46 more: expected a first line of names"),
    ("landmark,x,y\n0,1,2\n", "has columns landmark, x, y: expected"), ("a" * 200_000, "is no table of text"),
    (wide() + "8,1,2\n", "line 8 of 3 cells: list index out of range; expected a number"),
    (wide().replace(f",{SEEN[1, 0, 0]},", ",what,"), "line 3 of 52 cells: could not convert string to float: 'what'"),
    (wide(keys=[0, 1, "x", 3, 4, 5]), "column frame: could not convert .*; expected numbers"),
    (wide(keys=[0, 1, 2.5, 3, 4, 5]), "frame 2.5: expected frame numbers"), ("\0" * 99, "expected a first line"),
    (long("frame,joint,x,y", lambda t, i, v: [0, COCO[i], *v[:2]]), "frame 0 has joint nose twice: expected a column"),
])
def test_another_table_is_refused_in_one_line(content, message, tmp_path):
  with pytest.raises(ValueError, match=message) as error:
    read(tmp_path, content)
  assert "k.csv" in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


def test_columns_of_no_known_score_and_the_lack_of_frames_are_said(tmp_path):
  (note,) = read(tmp_path, wide(head=names(score="{}_foo"))).notes
  assert note.startswith("columns without a known word for a score were passed over: nose_foo, left_eye_foo, ")
  found = read(tmp_path, "\n".join(line.partition(",")[2] for line in wide().splitlines()))
  assert found.notes == ("no column has frames: every row is one",) and found.frame.tolist() == list(range(6))
