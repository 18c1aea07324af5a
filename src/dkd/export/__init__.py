"""Models for other programs: ONNX files and PyTorch's exported programs.

An exported model is one file that needs nothing of this package: normalisation is part of its
graph, and what it knows (:mod:`~dkd.export.description`, without torch) is in its metadata.
"""
