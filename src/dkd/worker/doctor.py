"""What this machine or container has, and whether it would do: ``dkd doctor``.

Runs in every image, with or without torch; each line says what to do if it is not well.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from dkd import __version__, storage
from dkd.errors import UserError
from dkd.network import triton_support
from dkd.storage import cache

GIB = 1 << 30
LITTLE_SHARED_MEMORY = 1 * GIB
"""Loader workers hand images over in /dev/shm; with less they die of bus errors."""

_PACKAGES = ("torch", "torchvision", "numpy", "pillow", "boto3", "safetensors", "kfp", "kubernetes")


@dataclass(frozen=True)
class Diagnosis:
    """One line of the examination.

    Attributes:
        name: what was looked at.
        text: what was found, and what to do about it.
        state: ``bad`` would keep something from working, ``warning`` may.
    """

    name: str
    text: str
    state: Literal["well", "warning", "bad"] = "well"


def examine(root: str | None = None) -> list[Diagnosis]:
    """Looks at versions, processors, GPUs, NCCL, memory, disk and the artifact root.

    Args:
        root: artifact root to write to and read from; None leaves it alone.
    """
    return [
        _versions(),
        _processors(),
        *_gpus(),
        _shared_memory(Path("/dev/shm")),  # noqa: S108 - looked at only
        _cache(),
        _store(root),
        _cluster(),
    ]


def _versions() -> Diagnosis:
    found = [f"dkd {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Diagnosis("versions", ", ".join(found))


def _processors() -> Diagnosis:
    process = psutil.Process()
    # macOS binds no process to processors.
    usable = psutil.cpu_count() or 1 if psutil.MACOS else len(process.cpu_affinity() or ())
    share = _cgroup_cpus(Path("/sys/fs/cgroup"))
    limit = f", of which the container may use {share:g}" if share and share < usable else ""
    memory = psutil.virtual_memory().total / GIB
    allowed = _cgroup_memory(Path("/sys/fs/cgroup"))
    bound = f" (limit {allowed / GIB:.1f} GiB)" if allowed and allowed / GIB < memory else ""
    user = f"user {process.uids().real if psutil.POSIX else process.username()}"
    return Diagnosis("machine", f"{usable} CPUs{limit}, {memory:.1f} GiB memory{bound}, {user}")


def _cgroup_cpus(folder: Path) -> float | None:
    """CPUs that the control group allows (version 2, then 1); None without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (folder / "cpu/cpu.cfs_quota_us").read_text(encoding="utf-8")
        period = (folder / "cpu/cpu.cfs_period_us").read_text(encoding="utf-8")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def _cgroup_memory(folder: Path) -> int | None:
    """Bytes that the control group allows; None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return int((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return None


def _gpus() -> list[Diagnosis]:
    if importlib.util.find_spec("torch") is None:
        return [Diagnosis("GPUs", "not looked for: this environment launches, it does not train")]
    import torch

    count = torch.cuda.device_count()
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    if not count:
        devices = sorted(each.name for each in Path("/dev").glob("nvidia[0-9]*"))
        if devices:
            text = f"torch cannot use {', '.join(devices)}: {built}; check the driver (nvidia-smi)"
            return [Diagnosis("GPUs", text, "bad")]
        return [Diagnosis("GPUs", f"none; training runs on CPU ({built})")]
    cards = [torch.cuda.get_device_properties(index) for index in range(count)]
    names = ", ".join(f"{each.name} {each.total_memory / GIB:.0f} GiB" for each in cards)
    return [Diagnosis("GPUs", f"{names}; {built}"), _nccl(torch, count), _kernels()]


def _kernels() -> Diagnosis:
    """Whether Triton can compile kernels; one small one is tried."""
    if lacking := triton_support.missing():
        hint = "training takes the slower way; install it in the image"
        return Diagnosis("Triton", f"{lacking}: {hint}", "warning")
    import torch

    from dkd.network.pooling_kernel import pooled

    norm = torch.nn.BatchNorm2d(16, device="cuda").eval()
    try:
        pooled(norm, torch.zeros(1, 16, 4, 4, device="cuda")).sum().item()
    except Exception as error:
        hint = "set speed.triton_losses and speed.triton_pooling to false, or mend it"
        return Diagnosis("Triton", f"{' '.join(str(error).split())[:300]}; {hint}", "bad")
    return Diagnosis(
        "Triton", f"{importlib.metadata.version('triton')}; a kernel compiles and runs"
    )


def _nccl(torch: Any, count: int) -> Diagnosis:
    """NCCL's version, and one sum over all GPUs of this machine."""
    try:
        version = ".".join(str(part) for part in torch.cuda.nccl.version())
        ones = [torch.ones(1, device=f"cuda:{index}") for index in range(count)]
        torch.cuda.nccl.all_reduce(ones)
        sums = [float(each) for each in ones]
    except Exception as error:
        return Diagnosis("NCCL", f"{' '.join(str(error).split())}; try NCCL_DEBUG=INFO", "bad")
    if sums != [float(count)] * count:
        text = f"{version}: a sum over {count} GPUs gave {sums}; check the machine"
        return Diagnosis("NCCL", text, "bad")
    return Diagnosis("NCCL", f"{version}; a sum over {count} GPU{'s' * (count > 1)} is right")


def _shared_memory(folder: Path) -> Diagnosis:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return Diagnosis(str(folder), f"{error.strerror}; loader workers need it", "bad")
    size = f"{usage.total / GIB:.2f} GiB, {usage.free / GIB:.2f} free"
    if usage.total < LITTLE_SHARED_MEMORY:
        hint = "give more (launch.shared_memory, or --shm-size), or training.loader_workers=0"
        return Diagnosis(str(folder), f"{size}; little for loader workers: {hint}", "warning")
    return Diagnosis(str(folder), size)


def _cache() -> Diagnosis:
    folder = cache.cache_folder()
    probe = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return Diagnosis(
            "cache", f"{folder}: {error.strerror}; set DKD_CACHE to a folder of yours", "bad"
        )
    return Diagnosis("cache", f"{folder}, {shutil.disk_usage(folder).free / GIB:.0f} GiB free")


def _store(root: str | None) -> Diagnosis:
    """Writes, reads and deletes a small object under the root, and creates one twice."""
    if root is None:
        return Diagnosis(
            "artifacts", "not tried: name the artifact root (--root s3://bucket/prefix)"
        )
    uri = storage.join(root, f".doctor-{uuid.uuid4().hex}")
    started = time.monotonic()
    try:
        storage.write_bytes(uri, b"dkd")
        same = storage.read_bytes(uri) == b"dkd"
        storage.delete([uri])
        took = 1000 * (time.monotonic() - started)
        storage.require_conditional_writes(root)
    except UserError as error:
        return Diagnosis("artifacts", str(error), "bad")
    if not same:
        return Diagnosis("artifacts", f"{root}: what is read is not what was written", "bad")
    return Diagnosis("artifacts", f"{root}: written, read and deleted in {took:.0f} ms")


def _cluster() -> Diagnosis:
    account = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    if account.exists():
        return Diagnosis(
            "cluster", f"in a pod of namespace {account.read_text(encoding='utf-8').strip()}"
        )
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return Diagnosis("cluster", "in a pod, without a service account's token")
    if file := os.environ.get("KUBECONFIG"):
        return Diagnosis("cluster", f"KUBECONFIG={file}")
    return Diagnosis("cluster", "none in sight; steps run on this machine")
