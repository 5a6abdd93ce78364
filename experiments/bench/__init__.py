"""The benchmark behind `experiments.benchmark`.

`cases` is the table of cases with their inputs and FLOPs. `jax_side` and `torch_side` compute them. `child` holds one
side in a process, `measure` times the processes in turn, and `report` writes tables and files.
"""
