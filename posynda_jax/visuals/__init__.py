"""Pictures of poses: figures, films, an interactive page of a sequence, and a page of a run.

This room imports `geometry` and `data`. Its inputs are arrays and finished tables. It computes no scores.

- `pose_sequence`: `PoseSequence`, `read_lifted`, `from_record`, `find_record`, `spread_frames`.
- `output`: `save` writes any picture of a sequence, `check_path`.
- `figures`: `hypotheses_figure`, `methods_figure`, `curves_figure`, `image`, `save`; parts of figures: `draw_2d`,
  `add_pose`, `frame_3d`, `segments`.
- `film`: `save_film` writes a GIF or MP4 file.
- `page`: `save_page` writes an interactive HTML page and does not load matplotlib; `project`, `fill`.
- `run_page`: `render`, the HTML page of a run, from sections: `table`, `facts`, `picture`, `curves`, `paragraph`.
"""
