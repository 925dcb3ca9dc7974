"""Memory runs out in a step or in a rollout: the same result from smaller pieces, or a message that says what to lower.

The errors are the allocator's own: somebody asks it for more than any machine has.
"""

import gc
import logging
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from curr_reft.errors import TrainingError
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.load import Policy
from curr_reft.policy.out_of_memory import is_out_of_memory
from curr_reft.policy.packing import group_tokens
from curr_reft.policy.rollout import rollout
from curr_reft.train.back_off import accumulate, cut
from curr_reft.train.config import CheckpointConfig, OptimizerConfig
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.loop import Journal, Plan, Validation, train_loop
from curr_reft.train.token_budget import backward_bytes

Fresh = Callable[..., Policy]
Grpo = Callable[..., GrpoObjective]
TOO_MUCH = 1 << 46  # bytes


def run_out(*_: Any) -> None:
    torch.empty(TOO_MUCH, dtype=torch.uint8)


class Small:
    """A machine that fails backward of rows of more than ``most`` tokens, in their first layers: after most of it."""

    def __init__(self, objective: GrpoObjective, most: int) -> None:
        self.objective, self.most = objective, most
        self.failed: list[int] = []
        self.fitted: list[int] = []
        self.own_loss = objective.loss
        objective.loss = self.loss  # type: ignore[method-assign]

    def loss(self, batch: Any) -> Any:
        loss, parts = self.own_loss(batch)
        tokens = batch.packed.length
        if tokens > self.most:
            self.failed.append(tokens)
            named = self.objective.policy.model.named_parameters()
            weight = next(p for n, p in named if "layers.0." in n and p.requires_grad)
            handle = weight.register_hook(lambda gradient: (handle.remove(), run_out()) and gradient)
        else:
            self.fitted.append(tokens)
        return loss, parts


def train(policy: Policy, objective: Any, folder: Path, steps: int = 2) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    journal = Journal(
        log=lambda row: rows.append(dict(row)),
        rewind=lambda *_: rows.__delitem__(slice(0)),
        sync=lambda: None,
    )
    train_loop(
        policy,
        objective,
        Plan(
            folder=folder,
            budget=steps,
            optimizer=OptimizerConfig(lr=1e-3),
            checkpoint=CheckpointConfig(every=1),
            seed=7,
            # The later the better, so that what comes back are the last weights.
            validate=lambda _: Validation(accuracy=len(rows) / 1000, score=0.0),
            journal=journal,
        ),
    )
    return [row for row in rows if row["kind"] == "train"]


def assert_near(policy: Policy, expected: Policy) -> None:
    for (name, got), (_, wanted) in zip(
        policy.model.named_parameters(), expected.model.named_parameters(), strict=True
    ):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("options", "objective"),
    [
        ({}, {}),
        ({"freeze": ("vision",), "gradient_checkpointing": True}, {"loss": "gspo", "updates_per_batch": 2}),
        ({"lora": {"rank": 4, "dropout": 0.1}}, {"loss": "dapo"}),
    ],
    ids=["full", "gspo", "lora"],
)
def test_a_step_that_does_not_fit_ends_with_the_weights_of_smaller_micro_batches(
    fresh: Fresh, grpo: Grpo, tmp_path: Path, caplog: Any, options: dict[str, Any], objective: dict[str, Any]
) -> None:
    caplog.set_level(logging.WARNING, "curr_reft")
    undisturbed, policy = fresh(**options), fresh(**options)
    small = Small(grpo(policy, **objective), most=120)
    rows = train(policy, small.objective, tmp_path / "small")
    limit = small.objective.tokens.limit
    assert limit < max(small.failed)
    assert max(small.fitted) <= 120
    told = [row for row in rows if "out_of_memory" in row]
    assert [row["step"] for row in told] == [1]  # and not again
    assert told[0]["out_of_memory"] == len(small.failed)
    assert told[0]["micro_batch_tokens"] == limit
    assert caplog.text.count("micro_batch_tokens is lowered from") == len(small.failed)
    assert f"to {limit}" in caplog.text
    assert "can't allocate memory" in caplog.text
    expected = train(undisturbed, grpo(undisturbed, micro_batch_tokens=limit, **objective), tmp_path / "large")
    if not options.get("lora"):  # dropout falls elsewhere in other rows; a rollout has none
        assert_near(policy, undisturbed)
        for row, other in zip(rows, expected, strict=True):
            assert row["loss"] == pytest.approx(other["loss"], abs=1e-6)
            assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    assert [row["reward"] for row in rows][:1] == [row["reward"] for row in expected][:1]
    # What the tool found is in the checkpoint, and a run that goes on begins with it.
    again = grpo(fresh(**options), **objective)
    again.load_state_dict(small.objective.state_dict())
    assert again.tokens.limit == limit


def test_nothing_of_the_half_done_step_is_left(fresh: Fresh, grpo: Grpo) -> None:
    """Random numbers and gradients: dropout of the second try is that of a run in which there was no first."""
    results = []
    for most in (1 << 20, 120):
        policy = fresh(lora={"rank": 4, "dropout": 0.5})
        small = Small(grpo(policy, micro_batch_tokens=110 if most > 120 else 16_384), most)
        batch = small.objective.prepare(1)
        policy.model.train()
        torch.manual_seed(3)
        batches, _ = accumulate(policy, small.objective, Accelerator(), batch.micro_batches)
        assert (len(batch.micro_batches) == len(batches)) == (most > 120)
        results.append({n: p.grad for n, p in policy.model.named_parameters() if p.requires_grad})
        results[-1]["drawn"] = torch.rand(4)
        lengths = [each.packed.length for each in batches]
        results[-1]["lengths"] = torch.tensor(lengths)
    assert torch.equal(results[0].pop("lengths"), results[1].pop("lengths"))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, atol=1e-7, rtol=1e-5)


def test_one_group_that_does_not_fit_is_a_message(fresh: Fresh, grpo: Grpo, tmp_path: Path) -> None:
    policy = fresh()
    objective = Small(grpo(policy), most=5).objective
    with pytest.raises(TrainingError, match=r"single group of \d+ tokens, a prompt of \d+ and 4 completions") as caught:
        train(policy, objective, tmp_path)
    for words in ("sampling.group_size", "model.max_pixels", "gradient_checkpointing", "can't allocate memory"):
        assert words in str(caught.value)
    assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_other_errors_are_not_memory(fresh: Fresh, grpo: Grpo, tmp_path: Path) -> None:
    policy = fresh()
    objective = grpo(policy)
    calls = []

    def loss(batch: Any) -> Any:
        calls.append(batch)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    objective.loss = loss  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(policy, objective, tmp_path)
    assert len(calls) == 1
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_the_reference_that_does_not_fit_is_computed_in_parts(
    fresh: Fresh, grpo: Grpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from curr_reft.train import grpo as module

    policy, anchor = fresh(), fresh()
    with torch.no_grad():
        for parameter in anchor.model.parameters():
            parameter.mul_(1.01)
    objectives = [grpo(policy, reference=lambda: nullcontext(anchor)) for _ in range(2)]
    (whole,) = objectives[0].prepare(1).micro_batches
    compute = module.packed_logprobs
    monkeypatch.setattr(
        module,
        "packed_logprobs",
        lambda policy, packed, **options: (packed.length > 120 and run_out()) or compute(policy, packed, **options),
    )
    (parts,) = objectives[1].prepare(1).micro_batches
    assert torch.allclose(parts.reference_logprobs_S, whole.reference_logprobs_S, atol=1e-5)
    assert objectives[1].tokens.limit < whole.packed.length


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[int]]]:
    """``decoding(most)``: more rows than that run out of memory; returns the list of what was tried."""

    def use(most: int) -> list[int]:
        from curr_reft.policy import rollout as module

        tried: list[int] = []
        for name in ("sample", "sample_plain"):
            own = getattr(module, name)

            def draw(policy: Any, prompts: Any, sampling: Any, *rest: Any, own: Any = own) -> None:
                tried.append(len(prompts) * sampling.group_size)
                own(policy, prompts, sampling, *rest)
                if tried[-1] > most:
                    run_out()

            monkeypatch.setattr(module, name, draw)
        return tried

    return use


@pytest.mark.parametrize("packed", [True, False])
def test_a_rollout_that_does_not_fit_is_decoded_in_halves(
    fresh: Fresh, grpo: Grpo, decoding: Callable[[int], list[int]], caplog: Any, packed: bool
) -> None:
    policy = fresh(packed=packed)
    prompts = [policy.processor.encode_question(question) for question in grpo(policy).sampler.draw(1)]
    sampling = SamplingConfig(group_size=5, max_new_tokens=8)
    expected = rollout(policy, prompts, sampling, seed=3)
    for most, sizes in ((7, {5}), (2, {1, 2})):
        policy.rows_that_fit = None
        tried = decoding(most)
        got = rollout(policy, prompts, sampling, seed=3)
        assert {size for size in tried if size <= most} == sizes
        assert max(tried) <= most or policy.rows_that_fit <= most
        for group, wanted in zip(got, expected, strict=True):
            assert group.prompt is wanted.prompt
            assert [c.text for c in group.completions] == [c.text for c in wanted.completions]
            for completion, other in zip(group.completions, wanted.completions, strict=True):
                assert torch.equal(completion.tokens_T, other.tokens_T)
                torch.testing.assert_close(completion.logprobs_T, other.logprobs_T, atol=1e-5, rtol=0)
                assert completion.truncated == other.truncated
        tried.clear()
        rollout(policy, prompts, sampling, seed=3)
        assert max(tried) <= most  # it is not tried again
    assert "rows are decoded at once from here on" in caplog.text
    decoding(0)
    with pytest.raises(TrainingError, match=r"one completion of a prompt of \d+ tokens.*sampling.max_new_tokens"):
        rollout(policy, prompts, sampling, seed=3)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's account of memory")
def test_a_real_limit_of_memory(fresh: Fresh, grpo: Grpo, tmp_path: Path) -> None:
    """The system refuses memory in the middle of a step, wherever that is; the gradients are those of small rows."""
    policy = fresh()
    objective = grpo(policy, prompts=96)
    batch = objective.prepare(1)
    (row,) = batch.micro_batches
    needed = backward_bytes(policy, row.packed.groups[0]) * row.packed.length // group_tokens(row.packed.groups[0])
    parameters = sum(4 * parameter.numel() for parameter in policy.model.parameters())
    accumulate(policy, objective, Accelerator(), cut(row, 300, policy))  # so that the gradients have their memory
    expected = {name: parameter.grad.clone() for name, parameter in policy.model.named_parameters()}
    for parameter in policy.model.parameters():
        parameter.grad = None
    gc.collect()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + parameters + needed // 2, hard))
    try:
        batches, sums = accumulate(policy, objective, Accelerator(), batch.micro_batches)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert sums["out_of_memory"] >= 1
    assert len(batches) >= 2
    for name, parameter in policy.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-4)
