"""MPI-INF-3DHP: eight training subjects before fourteen cameras, six test sequences, from the owners' files or the shared npz."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.mpi_inf_3dhp import processed, raw, tables, views

_TRAIN = tuple(dict.fromkeys(sequence.partition("/")[0] for sequence in tables.TRAIN))


@dataclasses.dataclass
class ViewsConfig(tfds.core.BuilderConfig):
  """Views of these training `cameras` from the official files, or those of the npz variant with this `suffix`."""

  cameras: tuple[int, ...] = ()
  suffix: str = ""


class MpiInf3dhp(tfds.core.GeneratorBasedBuilder):
  """One record a camera and sequence; splits are subjects (S1 to S8) and test sequences (TS1 to TS6), those that are there."""

  name = "mpi_inf_3dhp"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}
  BUILDER_CONFIGS = [
      ViewsConfig(name="vnect", description="Official files, the eight cameras of VNect.", cameras=tables.CAMERAS["vnect"]),
      ViewsConfig(name="all", description="Official files, all fourteen cameras.", cameras=tables.CAMERAS["all"]),
      ViewsConfig(name="chest", description="Official files, the five cameras at chest height.", cameras=tables.CAMERAS["chest"]),
      ViewsConfig(name="processed", description="data_{train,test}_3dhp.npz (P-STMO)."),
      ViewsConfig(name="processed_ori", description="data_{train,test}_3dhp_ori.npz (D3DP, PoSynDA).", suffix="_ori"),
  ]
  SPLIT_ALIASES = {"train": "+".join(_TRAIN), "test": "+".join(tables.TEST)}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "Put S1..S8/Seq1,Seq2/{annot.mat,camera.calibration} and TS1..TS6/annot_data.mat, as the owners' scripts leave them, into "
      "manual_dir; or data_train_3dhp.npz and data_test_3dhp.npz for `processed`, the same with _ori for `processed_ori`."
  )
  url_infos = {}  # nothing is downloaded; see mocap/builder.py

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
        features=record.view_features(
            activity=tfds.features.Tensor(shape=(None,), dtype=np.int32),
            annotation=tfds.features.Text(),
            reprojection_px=np.float32,
            intrinsics_from=tfds.features.Text(),
        ),
        homepage="https://vcai.mpi-inf.mpg.de/3dhp-dataset/",
        license="Non-commercial research only, no redistribution. See README.md.",
        disable_shuffling=True,  # records keep the order of sequences and cameras; the pipeline shuffles
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    config, folder = self.builder_config, pathlib.Path(dl_manager.manual_dir)
    found = raw.sequences(folder, config.cameras) if config.cameras else processed.sequences(folder, config.suffix)
    if not found:
      raise FileNotFoundError(f"{folder} holds no file of {self.name}/{config.name}. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    splits: dict[str, dict] = {}
    for sequence, read in found.items():
      splits.setdefault(sequence.partition("/")[0], {})[sequence] = read
    for split, members in splits.items():
      half = [s for s in tables.TRAIN if s.startswith(f"{split}/") and s not in members]
      if half:
        raise views.Fault(folder, f"{half[0]} is missing while the other sequence of {split} is there", "fetch the whole subject")
    missing = [split for split in (*_TRAIN, *tables.TEST) if split not in splits]
    if missing:
      print(f"Not in {folder}, and so not splits of this build: {', '.join(missing)}.", file=sys.stderr)
    return {split: self._generate_examples(members) for split, members in splits.items()}

  def _generate_examples(self, sequences: dict[str, Callable]) -> Iterator[tuple[str, dict]]:
    for sequence, read in sequences.items():
      subject, _, action = sequence.partition("/")
      fps = tables.TRAIN[sequence][1] if sequence in tables.TRAIN else tables.TEST_FPS
      labels = {"subject": subject, "action": action or subject, "sequence": sequence, "fps": np.float32(fps)}
      for camera, view in read():
        if view["annotation"] == "unrelated":
          what = f"3D projects {view['reprojection_px']:.3g} px from the 2D, in no size nearer than {views.RESIZED_BELOW_PX:g}"
          raise views.Fault(f"{sequence}, camera {camera}", what, "run data_prep.check on the folder, it tells why")
        yield f"{sequence}/{camera}", {**view, **labels, "camera": str(camera)}
      print(f"{sequence}: {count_line(sequence, view)}", file=sys.stderr)


def count_line(sequence: str, view: dict) -> str:
  """Frames and valid frames of a sequence, and how the readme counts them where it does."""
  line = f"{len(view['valid'])} frames, {view['valid'].sum()} valid"
  return line + (f" (readme: {tables.TEST[sequence][1]})" if sequence in tables.TEST else "")
