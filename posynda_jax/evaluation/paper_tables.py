"""Numbers that the paper prints (PoSynDA, MM '23, Tables 1, 2 and 4). None of them was measured here.

The paper's row "Ours" is named PoSynDA. Every line of `PaperTable.lines` begins with "paper".
"""

import dataclasses

_ = None  # a dash in the paper


@dataclasses.dataclass(frozen=True)
class PaperTable:
  """Rows are (method, mark, one value for each column). `mark` is the heading of the paper's second column."""

  title: str
  mark: str
  columns: tuple[str, ...]
  rows: tuple[tuple, ...]

  def only(self, mark: str) -> "PaperTable":
    """The rows of one mark."""
    return dataclasses.replace(self, rows=tuple(row for row in self.rows if row[1] == mark))

  def lines(self) -> list[str]:
    """The table as lines of text, each with "paper" at its start."""
    rows = [("method", self.mark, *self.columns), *self.rows]
    cells = [["-" if value is None else str(value) for value in row] for row in rows]
    table = [f"{name:26}{mark:>8}" + "".join(f"{value:>10}" for value in values) for name, mark, *values in cells]
    return [f"paper  {line}" for line in (f"{self.title} (as printed, not measured here)", *table)]


TABLE_1 = PaperTable(
    "Table 1, Human3.6M, source S, target S5, S6, S7, S8", "S", ("MPJPE", "P-MPJPE"),
    (
        ("Pavlo et al. [48]", "Full", 37.2, 27.2), ("Cai et al. [3]", "Full", 50.6, 40.2),
        ("Martinez et al. [43]", "Full", 45.5, 37.1), ("Zhao et al. [69]", "Full", 43.8, _),
        ("Lui et al. [41]", "Full", 34.7, _), ("Wang et al. [59]", "Full", 25.6, _), ("Li et al. [38]", "S1", 50.5, _),
        ("Pavlo et al. [48]", "S1", 51.7, _), ("Gong et al. [16]", "S1", 56.7, _),
        ("Gholami et al. [15]", "S1", 54.2, 35.6), ("Chai et al. [4]", "S1", 49.9, 34.2), ("PoSynDA", "S1", 48.1, 33.2),
    ),
)
TABLE_2 = PaperTable(
    "Table 2, MPI-INF-3DHP, source Human3.6M; CD: across datasets", "CD", ("MPJPE", "PCK", "AUC"),
    (
        ("Mehta et al. [44]", "", 117.6, 76.5, 40.8), ("VNect [46]", "", 124.7, 76.6, 40.4),
        ("OriNet [42]", "", 89.4, 81.8, 45.2), ("Multi Person [45]", "", 122.2, 75.2, 37.8),
        ("Martinez et al. [43]", "", 84.3, 85.0, 52.0), ("Zhang et al. [66]", "", 57.9, 94.2, 63.8),
        ("Guan et al. [19]", "CD", 117.6, 90.3, _), ("Kanazawa et al. [32]", "CD", 113.2, 77.1, 40.7),
        ("Wandt et al. [57]", "CD", 92.5, 81.8, 54.8), ("Ci et al. [13]", "CD", _, 74.0, 36.7),
        ("Zeng et al. [64]", "CD", _, 77.6, 43.8), ("Li et al. [38]", "CD", 99.7, 81.2, 46.1),
        ("Gong et al. [16]", "CD", 92.6, 82.9, 46.5), ("Gholami et al. [15]", "CD", 77.2, 88.4, 54.2),
        ("Chai et al. [4]", "CD", 61.3, 92.1, 62.5), ("PoSynDA (VideoPose)", "CD", 60.2, 93.1, 58.4),
        ("PoSynDA (MixSTE)", "CD", 58.2, 93.5, 59.6),
    ),
)
TABLE_4 = PaperTable(
    "Table 4, 3DPW, source Human3.6M; CD: across datasets", "CD", ("P-MPJPE", "MPJPE"),
    (
        ("Pavlo et al. [48]", "", 68.0, 105.0), ("Kocabas et al. [34]", "", 51.9, 82.9),
        ("Joo et al. [31]", "", 55.7, _), ("Lin et al. [40]", "", 45.6, 74.7),
        ("Kocabas et al. [34]", "CD", 56.5, 93.5), ("Gong et al. [16]", "CD", 58.5, 94.1),
        ("Guan et al. [19]", "CD", 49.5, 77.2), ("Gholami et al. [15]", "CD", 46.5, 81.2),
        ("Chai et al. [4]", "CD", 55.3, 87.7), ("PoSynDA", "CD", 45.4, 75.5),
    ),
)
