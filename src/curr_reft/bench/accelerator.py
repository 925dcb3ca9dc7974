"""What a device can do at most, and the clock and the memory of work on it (a GPU, or the CPU in tests)."""

import gc
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

from curr_reft.errors import UsageError

PEAKS = {
    "B200": (2250e12, 8.0e12),
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "A100-SXM4-40GB": (312e12, 1.555e12),
    "A100": (312e12, 2.04e12),
    "L40S": (362e12, 0.864e12),
    "RTX 4090": (165e12, 1.008e12),
}
"""Dense bfloat16 operations a second and bytes of memory a second, from the makers' data sheets. The first name that
stands in the device's name counts."""


def device_facts(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Name and memory; rates measured here, those of the data sheet, and which of them figures are shares of."""
    side, numbers = (8192, 1 << 29) if device.type == "cuda" else (512, 1 << 22)
    found: dict[str, Any] = {
        "name": "cpu",
        "gemm_flops": _gemm_rate(device, dtype, side),
        "copy_bytes": _copy_rate(device, numbers),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"name": properties.name, "memory_bytes": properties.total_memory}
    sheet = data_sheet(found["name"])
    found["peak_flops"], found["peak_bytes"] = sheet or (found["gemm_flops"], found["copy_bytes"])
    found["peak_from"] = "data sheet" if sheet else "measured"
    return found


def data_sheet(name: str) -> tuple[float, float] | None:
    """Operations and bytes a second of the device of this name; None for one that is not in the table."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def synchronize(device: torch.device) -> None:
    """Returns when all that was launched is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(once: Callable[[], Any], device: torch.device, repeats: int = 3) -> float:
    """Median of ``repeats``, after one run to warm up."""
    once()
    found = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        once()
        synchronize(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def busiest(once: Callable[[], Any], device: torch.device, count: int = 12) -> dict[str, Any]:
    """Where the time of ``once`` goes: on a GPU by kernel, with the seconds in which any ran; on a CPU by operation.

    Where ``busy_seconds`` is far below ``seconds``, the device waits to be told what to do. The profiler slows the host
    down, so shares matter here, and seconds elsewhere.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    once()
    synchronize(device)
    with torch.profiler.profile(activities=activities) as profile:
        started = time.perf_counter()
        once()
        synchronize(device)
        seconds = time.perf_counter() - started
    rows = []
    for event in profile.key_averages():
        on_host = event.device_type == torch.autograd.DeviceType.CPU
        if on_host == (device.type == "cpu"):
            spent = event.self_cpu_time_total if on_host else event.self_device_time_total
            rows.append({"name": event.key[:100], "seconds": spent / 1e6, "calls": event.count})
    rows.sort(key=lambda row: -row["seconds"])
    return {
        "seconds": seconds,
        "busy_seconds": sum(row["seconds"] for row in rows),
        "launches": sum(row["calls"] for row in rows),
        "busiest": rows[:count],
    }


def reset_peak(device: torch.device) -> None:
    """From here on ``peak_bytes`` counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Most bytes of tensors held on the device since ``reset_peak``; None on a CPU, which does not count them."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def attempt(phase: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a phase found; why it was left out, or how it failed. Memory it held is free afterwards."""
    try:
        return phase()
    except UsageError as error:
        return {"skipped": str(error)}
    except torch.OutOfMemoryError as error:
        return {"failed": f"out of memory: {str(error).splitlines()[0]}"}
    except Exception as error:  # the figures of other phases are worth keeping
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _gemm_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right, device, repeats=10)


def _copy_rate(device: torch.device, numbers: int) -> float:
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()  # read and written
    return moved / seconds_of(lambda: target.copy_(source), device, repeats=10)
