"""The benchmark behind `experiments.benchmark`: cases, a process for each side, measurement, and reports.

`cases` is the table of cases with their inputs and FLOPs. `jax_side` and `torch_side` compute them. `child` holds one side in a
process, `measure` times the processes in turn, `profile` traces ours, and `report` writes tables and the picture.
"""
