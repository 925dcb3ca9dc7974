"""The measurement for a GPU at toy size on the CPU: it runs, it is exact, and keeps what it has when it is cut."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from curr_reft.bench import accelerator
from curr_reft.bench.exactness import check_exact
from curr_reft.bench.phases import WAYS, Measurement
from curr_reft.bench.plan import real_plan, small_plan
from curr_reft.bench.scale import build_random
from curr_reft.errors import UsageError
from curr_reft.policy.packing import PackedBatch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def script(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=False, timeout=280
    )


def test_every_phase_runs_at_toy_size(tmp_path: Path) -> None:
    done = script("--small", "--json", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["exact"]["ok"] is True
    assert 0 < found["exact"]["logprobs"] <= 2e-5
    ways = found["training"]
    assert list(ways) == [
        "packed, SDPA", "packed, SDPA, recomputing", "packed, varlen flash-attention", "naive, recomputing"
    ]  # fmt: skip
    assert "needs a GPU" in ways.pop("packed, varlen flash-attention")["skipped"]
    assert all(way["mfu"] > 0 for way in ways.values())  # how much above 0 is the machine's matter
    assert ways["packed, SDPA"]["tflops"] == ways["packed, SDPA, recomputing"]["tflops"]
    assert ways["packed, SDPA"]["tflops"] < ways["naive, recomputing"]["tflops"]
    steps = found["step"]
    assert [step["prompts"] for step in steps.values()] == [2, 3]
    for step in steps.values():
        assert sum(step["parts"].values()) == pytest.approx(step["seconds"], rel=0.2)
    assert found["exact"]["recorded"] is True
    decode = found["decode"]
    assert decode["rows"] == 9
    assert (decode["eager"]["recorded"], decode["graphs"]["recorded"]) == (0, 1)
    assert all(decode[way]["over_bound"] == decode[way]["step_seconds"] / decode["bound_seconds"] for way in WAYS)
    assert found["ratio"] == found["trl"]["seconds"] / steps["two prompts, new images"]["seconds"]
    for part in found["profile"].values():
        assert 0 < sum(row["seconds"] for row in part["busiest"]) <= part["busy_seconds"] <= 1.1 * part["seconds"]
        assert part["launches"] > 100
    kernels = found["kernels"]
    assert kernels["packed, SDPA"]["ok"] is True
    assert 0 < kernels["plain"]["gradients"] < 0.1
    assert "needs a GPU" in kernels["packed, varlen flash-attention"]["skipped"]
    assert found["tests"] == {"skipped": "these tests need a GPU"}
    for phase in ("machine", "tests", "exact", "kernels", "prefill", "decode", "training", "step", "trl", "profile"):
        assert f"] {phase}: " in done.stdout
    assert f"TRL's step over ours {found['ratio']:>31.3g}".split() == done.stdout.splitlines()[-2].split()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script in this process: ``gpu(words...)`` is its exit code."""
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*words: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, words)])
        return int(module.main())

    return call


def test_what_is_cut_keeps_what_it_has(gpu: Any, tmp_path: Path) -> None:
    assert gpu("--small", "--phases", "prefill", "--budget-seconds", "0", "--json", tmp_path / "gpu.json") == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["machine"] == found["prefill"] == {"skipped": "the budget is spent"}


def test_a_phase_that_fails_costs_no_other(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor what else was found; the exit code says so."""

    def broken(measurement: Any) -> dict[str, Any]:
        raise ImportError("no such library\nmore")

    monkeypatch.setattr(Measurement, "exact", broken)
    monkeypatch.setattr("curr_reft.bench.peer_step.find_spec", lambda name: None)
    assert gpu("--small", "--phases", "exact", "prefill", "trl", "--json", tmp_path / "g") == 1
    found = json.loads((tmp_path / "g").read_text())
    assert found["exact"] == {"failed": "ImportError: no such library\nmore"}
    assert found["prefill"]["seconds"] > 0
    assert found["trl"] == {"skipped": "TRL is not installed; pip install 'curr-reft[trl]'"}
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "FAILED: ImportError: no such library"
    assert "TRL's step over ours                             -" in told


def test_half_numbers_that_are_wrong_are_not_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    from curr_reft.bench import exactness

    real = exactness.packed_logprobs

    def shifted(policy: Any, batch: PackedBatch) -> torch.Tensor:
        if policy.packed:
            batch.positions_AL[:, 60:] += 3
        return real(policy, batch)

    monkeypatch.setattr(exactness, "packed_logprobs", shifted)
    assert exactness.check_half(small_plan())["packed, SDPA"]["ok"] is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would measure")
def test_without_a_gpu_it_says_what_to_do(gpu: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu("--json", tmp_path / "gpu.json") == 2
    assert "no GPU is at hand; --small" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


def test_the_real_plan_is_the_3b_model() -> None:
    """Of 3,754,622,976 parameters, as the published weights (the tied output layer counted once)."""
    plan = real_plan(torch.device("meta"))
    model = build_random(plan.config(), torch.device("meta"), torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_754_622_976
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert (plan.shape.visual, plan.shape.C, plan.shape.G) == (1024, 64, 8)
    cut = plan.config(layers=2)
    assert (cut.text_config.num_hidden_layers, cut.vision_config.depth, cut.text_config.hidden_size) == (2, 2, 2048)
    assert cut.vision_config.fullatt_block_indexes == [1]


def test_a_wrong_position_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    from curr_reft.bench import exactness

    pack = exactness.pack

    def shifted(*arguments: Any) -> PackedBatch:
        batch = pack(*arguments)
        batch.positions_AL[:, -1] += 3  # of one token
        return batch

    monkeypatch.setattr(exactness, "pack", shifted)
    found = check_exact(small_plan())
    assert found["ok"] is False
    assert found["logprobs"] > 1e-4
    assert found["greedy_is_generate"] is True


def test_a_phase_that_fails_says_why_and_the_next_goes_on() -> None:
    def raising(error: Exception) -> Any:
        def phase() -> dict[str, Any]:
            raise error

        return accelerator.attempt(phase)

    assert raising(UsageError("not here")) == {"skipped": "not here"}
    assert raising(torch.OutOfMemoryError("tried\nmore")) == {"failed": "out of memory: tried"}
    assert raising(KeyError("x")) == {"failed": "KeyError: 'x'"}
    assert accelerator.attempt(lambda: {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
    ],
)
def test_the_peak_is_that_of_the_first_name_in_the_table(name: str, peak: float) -> None:
    found = accelerator.data_sheet(name)
    assert found is not None
    assert found[0] == peak


def test_a_device_without_a_data_sheet_is_measured() -> None:
    facts = accelerator.device_facts(torch.device("cpu"), torch.float32)
    assert facts["peak_from"] == "measured"
    assert facts["peak_flops"] == facts["gemm_flops"] > 1e8
    assert facts["peak_bytes"] == facts["copy_bytes"] > 1e8


def test_decoding_is_bound_by_what_it_reads() -> None:
    """The weights of the language model once, and the keys and values of three prompts and half of six completions."""
    plan = small_plan()
    measurement = Measurement(plan)
    text = measurement.core.get_decoder()
    weights = sum(parameter.numel() for parameter in text.parameters())
    config = text.config
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * (config.hidden_size // 4)
    assert measurement._decode_bytes() == 2 * (weights + a_token * (3 * 50 + 9 * 2))
