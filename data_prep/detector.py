"""Takes BlazePose's models, which find people and their joints in videos, from a wheel or a folder.

    pip download --no-deps --only-binary=:all: mediapipe==0.10.21
    python -m data_prep.detector --source=mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl

The lighter and the heavier model (`lift --model=heavy`) are in npm's package, which has no detector of people: unpack
what `npm pack @mediapipe/pose@0.5.1675469404` fetches and give both, `--source=mediapipe-0.10.21-....whl,package`.

The models are Google's, under the Apache licence 2.0 (https://www.apache.org/licenses/LICENSE-2.0); a notice is written
beside them. Each is checked by SHA-256. Nothing is installed and no code of the packages runs.
"""

import pathlib
import sys

from absl import app, flags

from posynda_jax.interop.video import models
from posynda_jax.runtime import files

SOURCE = flags.DEFINE_list("source", None, "Wheels and folders with the models somewhere in them.", required=True)
OUTPUT = flags.DEFINE_string("output", "~/.cache/posynda_jax/blazepose", "Folder to write the models to.")


def main(argv) -> None:
  del argv
  folder = pathlib.Path(OUTPUT.value).expanduser()
  try:
    found = models.read_models(*(pathlib.Path(source).expanduser() for source in SOURCE.value))
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in found.items():
      models.check(name, raw)
      with files.writing(folder / name) as file:
        file.write(raw)
      print(f"{folder / name}: {len(raw):,} bytes, checked")
    (folder / "NOTICE.txt").write_text(models.NOTICE)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  app.run(main)
