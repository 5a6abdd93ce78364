"""Builder of MPI-INF-3DHP from the owners' files or the processed npz files: eight subjects, six test sequences."""

import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_datasets as tfds

from posynda_jax.datasets import record
from posynda_jax.datasets.licensed import Fault
from posynda_jax.datasets.mpi_inf_3dhp import processed, raw, tables, views

CONFIGS = {name: f"Official files, cameras {cameras}." for name, cameras in tables.CAMERAS.items()} | {
    "processed": "data_{train,test}_3dhp.npz (P-STMO).",
    "processed_ori": "data_{train,test}_3dhp_ori.npz (D3DP, PoSynDA).",
}
_SUBJECTS = tuple(dict.fromkeys(map(tables.subject, tables.TRAIN)))


class MpiInf3dhp(record.Builder):
  """A record is one camera's view of one sequence. A split is a subject (S1 to S8) or a test sequence (TS1 to TS6)."""

  name = "mpi_inf_3dhp"
  HOMEPAGE = "https://vcai.mpi-inf.mpg.de/3dhp-dataset/"
  LICENSE = "Non-commercial research only, no redistribution."
  EXTRA_FEATURES = {
      "activity": tfds.features.Tensor(shape=(None,), dtype=np.int32),
      "annotation": tfds.features.Text(),
      "reprojection_px": np.float32,
      "intrinsics_from": tfds.features.Text(),
  }
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]
  SPLIT_ALIASES = {"train": "+".join(_SUBJECTS), "test": "+".join(tables.TEST)}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
      "Put S1..S8/Seq1,Seq2/{annot.mat,camera.calibration} and TS1..TS6/annot_data.mat, as the owners' scripts write "
      "them, into manual_dir. `processed` needs data_{train,test}_3dhp.npz, `processed_ori` the same with _ori."
  )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    config, folder = self.builder_config.name, pathlib.Path(dl_manager.manual_dir)
    if config in tables.CAMERAS:
      found = raw.sequences(folder, tables.CAMERAS[config])
    else:
      found = processed.sequences(folder, config.removeprefix("processed"))
    if not found:
      what = f"{folder} holds no file of {self.name}/{config}"
      raise FileNotFoundError(f"{what}. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    for sequence in found:
      for half in tables.other_half(found, sequence):
        raise Fault(folder, f"{half} is missing and {sequence} is there", "fetch the whole subject")
    splits = dict.fromkeys(map(tables.subject, found))
    if missing := [split for split in (*_SUBJECTS, *tables.TEST) if split not in splits]:
      print(f"Not in {folder}, and so not splits of this build: {', '.join(missing)}.", file=sys.stderr)
    return {
        split: self._generate_examples({name: read for name, read in found.items() if tables.subject(name) == split})
        for split in splits
    }

  def _generate_examples(self, sequences: dict[str, Callable[[], raw.Views]]) -> Iterator[tuple[str, dict]]:
    for sequence, read in sequences.items():
      subject, _, action = sequence.partition("/")
      fps = tables.TRAIN[sequence][1] if sequence in tables.TRAIN else tables.TEST_FPS
      labels = {"subject": subject, "action": action or subject, "sequence": sequence, "fps": np.float32(fps)}
      for camera, view in read():
        if view["annotation"] == "unrelated":
          raise Fault(
              f"{sequence}, camera {camera}",
              f"3D projects {view['reprojection_px']:.3g} px from the 2D, at no scale nearer than "
              f"{views.RESCALED_BELOW_PX:g}",
              "run data_prep.check on the folder, which finds the cause",
          )
        yield f"{sequence}/{camera}", {**view, **labels, "camera": str(camera)}
      readme = f" (readme: {tables.TEST[sequence][1]})" if sequence in tables.TEST else ""
      print(f"{sequence}: {len(view['valid'])} frames, {view['valid'].sum()} valid{readme}", file=sys.stderr)
