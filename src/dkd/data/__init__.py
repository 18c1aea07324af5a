"""Data sets: layouts, index, splits of a task's steps, label tables, loading, packing.

Light modules (no torch): :mod:`~dkd.data.index`, :mod:`~dkd.data.formats`,
:mod:`~dkd.data.made`, :mod:`~dkd.data.splits`, :mod:`~dkd.data.labels`,
:mod:`~dkd.data.packed`. With torch: :mod:`~dkd.data.transforms`, :mod:`~dkd.data.loading`.
"""
