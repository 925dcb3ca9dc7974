"""What many rows with images cost in memory: some hundred bytes each, and no pixels."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from image_rows import write_image_rows

WALK = """
import os, sys
from pathlib import Path
from curr_reft.data.config import DataConfig
from curr_reft.data.load import load_data
from curr_reft.data.stream import ItemStream

folder, count, how, leaks = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
files = {split: [{"path": str(folder / f"{split}.jsonl")}] for split in ("train", "validation", "test")}
checks = "decode" if leaks == "perceptual" else "header"
config = DataConfig.model_validate({"kind": "files", "files": files, "leaks": leaks, "check_images": checks})

def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

marks, kept = {}, []
for number, item in enumerate(ItemStream(config, lambda task, raw: str(raw))):
    if how == "items":
        kept.append(item)
    if number in (count // 5, count - 1):
        marks[number] = memory()
first, last = marks
print((marks[last] - marks[first]) / (last - first), len(os.listdir("/proc/self/fd")))
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")


def bytes_a_row(folder: Path, count: int, how: str, leaks: str) -> float:
    """Growth of the process from a fifth of the rows to all of them."""
    done = subprocess.run(
        [sys.executable, "-c", WALK, folder, str(count), how, leaks],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    grown, descriptors = done.stdout.split()
    assert int(descriptors) < 10  # no file stays open
    return float(grown)


@needs_proc
def test_a_row_costs_some_hundred_bytes(tmp_path: Path) -> None:
    folder = write_image_rows(tmp_path, 3000)
    # The images looked at last (some thousand, whatever the number of rows) are in these figures as well.
    assert bytes_a_row(folder, 3000, "stream", "exact") < 2000
    assert bytes_a_row(folder, 3000, "items", "exact") < 3000


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_proc
def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    folder = write_image_rows(tmp_path, 100_000)
    assert bytes_a_row(folder, 100_000, "stream", "exact") < 500
    assert bytes_a_row(folder, 100_000, "stream", "perceptual") < 800
    assert bytes_a_row(folder, 100_000, "items", "exact") < 1600
