"""Writes a run's folder as one HTML page, to read in a browser, on a phone or on paper.

    python -m experiments.report --run=runs/hdm05_wild
    python -m experiments.report --run=runs/components_hdm05 --output=rows.html

Takes the folder of a pretraining, adaptation or components run, finished or not; about five seconds. The page is one file
without network requests: results with their protocol, pictures, loss curves, evaluations, configuration, commands and versions.
"""

import pathlib

from absl import flags

from experiments import common
from posynda_jax.visuals import report

RUN = flags.DEFINE_string("run", None, "The run's folder.")
OUTPUT = flags.DEFINE_string("output", None, "The HTML file to write (default: report.html in the folder).")


def main() -> None:
  if RUN.value is None:
    raise ValueError("--run is not given: name the folder of a run")
  page = report.page(RUN.value)
  output = pathlib.Path(OUTPUT.value or f"{RUN.value}/report.html").expanduser()
  if not output.parent.is_dir():
    raise FileNotFoundError(f"the folder of {output} does not exist: make it first")
  beside = output.with_suffix(".part")
  beside.write_text(page)
  beside.replace(output)
  print(f"{output}: {output.stat().st_size / 1e3:,.0f} kB")


if __name__ == "__main__":
  common.run(main)
