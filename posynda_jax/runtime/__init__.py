"""Devices, processes, files and time around a training step. This room imports no other room.

- `processes`: start-up of several processes; `start`, `is_main`, `main_first`, `wait`, `leave_at_once`.
- `parallel`: the only `pmap`, and random keys by place in the batch; `AXIS`, `make_parallel_step`, `compile_step`,
  `replicate`, `everywhere`, `shard`, `DeviceFeed`, `purpose_key`, `clip_keys`.
- `loop`: the training loop; `train`, `resume`, `LoopSettings`, `Saving`.
- `checkpoint`: the only Orbax; `Checkpoints`, `save_tree`, `load_tree`, `digest`, `describe_data`.
- `signals`: SIGTERM and SIGINT; `listen`, `held`, `hold`, `asked`, `hint`, `Stopped`.
- `locks`: one owner a folder; `take`, `give_back`, `InUse`.
- `runs`: run folders; `Run`, `read_config`, `read_metrics`, `read_scalars`, `check_same`.
- `files`: atomic writes; `writing`, `write_text`, `write_json`.
- `text`: Markdown; `markdown_table`.
"""
