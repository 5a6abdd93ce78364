"""Preparation of downloads: checks them and turns them into the folders that the dataset builders read.

`check` inspects a download, and `human36m`, `mpi_inf_3dhp` and `threedpw` prepare one. Each of these three offers
`inspect(path)`, which yields `findings.Finding`, and `prepare(path, output)`. `geometry_checks` finds wrong joint
orders, units and cameras in any dataset.
"""
