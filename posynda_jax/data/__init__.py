"""Records as tracks, tracks as clips, clips as batches. This room imports geometry.

- `tracks`: every n-th frame of a record, 2D in screen units; `Track`, `make_tracks`, `mean_bones`,
  `UNLABELLED`, `LABELLED`, `WORLD`.
- `clips`: tracks as clips; `make_cut`, `Cut`, `cut`, `stitch`, `ClipSource`, `in_order`.
- `feed`: shuffled batches by grain; `Feed`.
- `safe_pickle`: plain data from untrusted pickle, npz and npy files; `load`, `load_npz`, `load_npy`, `bounded`,
  `Refused`, `Ignored`.
"""
