"""Bytes: what is measured at the peak, and what a GPU would need, on paper.

python -m benchmarks --only memory
"""

from pathlib import Path

import torch


def reset_peak(device: str) -> int:
    """Starts to look for a peak; bytes that there are now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak of resident memory to now
    return peak_since(device, 0)


def peak_since(device: str, base: int) -> int:
    """Bytes at the peak above the base."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() - base
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024 - base
