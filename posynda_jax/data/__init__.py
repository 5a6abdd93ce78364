"""Records as tracks, tracks as clips, clips as batches. This room imports geometry and runtime.

- `tracks`: records at the model's frame rate; `Track`, `make_tracks`, `mean_bones`, `UNLABELLED`, `LABELLED`, `WORLD`.
- `clips`: tracks as clips; `make_cut`, `Cut`, `cut`, `stitch`, `ClipSource`, `in_order`.
- `feed`: shuffled batches by grain; `Feed`, `batches`.
- `safe_pickle`: plain data from untrusted pickle, npz and npy files; `load`, `load_file`, `load_npz`, `load_npy`,
  `bounded`, `Refused`, `Ignored`.
"""
