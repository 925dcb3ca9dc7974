"""What only a GPU can show of this room: captures, kernels, waits, memory. ``python benchmarks/gpu.py`` runs these.

By themselves: CURR_REFT_TEST_GPU=1 python -m pytest tests/policy/test_on_a_gpu.py. What of it can be held without a GPU
is held by ``test_devices.py``.
"""

import warnings
from dataclasses import replace

import pytest
import tiny_models
import torch
from test_replayed import SAMPLING, assert_same, recording
from test_varlen import plain_kernel

from curr_reft.policy import varlen
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.graphs import record
from curr_reft.policy.load import load_policy
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout
from curr_reft.policy.selfcheck import check_packed
from curr_reft.policy.varlen import find_segments
from curr_reft.train.token_budget import MORE, backward_bytes, free_memory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and CURR_REFT_TEST_GPU=1")


def loaded(folder, **options):
    return load_policy(ModelConfig(path=str(folder), device="cuda", **options))


def asked(policy, picture):
    encode = policy.processor.encode
    return [encode("find the red circle", [picture(0), picture(1, 56, 112)]), encode("how many blue")]


@pytest.fixture(autouse=True)
def _float32_as_it_is():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_graph_computes_again_what_it_reads_now():
    device = torch.device("cuda", 0)
    source, outcome = torch.arange(4.0, device=device), torch.zeros(4, device=device)

    def run() -> None:
        outcome.copy_(source * 2)

    replay = record(run, device, torch.cuda.graph_pool_handle())
    source += 1
    replay()
    torch.cuda.synchronize()
    assert outcome.tolist() == [2.0, 4.0, 6.0, 8.0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_a_capture_that_fails_leaves_the_stream_and_is_launched(model_folder, prompts, monkeypatch, caplog):
    """A wait in the step: refused in a capture, and nothing of it stays behind."""
    from curr_reft.policy.fixed_layout import MaskedStep

    policy = loaded(model_folder)
    attend = MaskedStep.attend_rows

    def waiting(masked, *args):
        assert int(masked.layout.step) >= 0
        return attend(masked, *args)

    monkeypatch.setattr(MaskedStep, "attend_rows", waiting)
    ours = rollout(policy, prompts, SAMPLING, seed=3)
    assert policy.graphs is None
    assert "could not be captured" in caplog.text
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    batch = pack(ours, policy.family)
    with torch.no_grad():
        scored_S = packed_logprobs(policy, batch).cpu()
    assert (scored_S - batch.sampled_logprobs_S).abs().max() <= 2e-5


@pytest.mark.parametrize("seed", [1, 2])
def test_captured_steps_are_those_launched(model_folder, prompts, seed):
    launched = loaded(model_folder, cuda_graphs="off")
    launched.token_bias_V[launched.end_ids[0]] = 2.0
    captured = recording(launched)
    sampling = SAMPLING.model_copy(update={"max_new_tokens": 80, "temperature": 0.0})
    assert_same(launched, captured, prompts, sampling, seed=seed)
    assert captured.graphs.captured == len(captured.graphs._steps) > 0


def test_graphs_follow_weights_that_train(model_folder, prompts):
    policy = loaded(model_folder)
    launched = replace(policy, graphs=None)
    for seed in (1, 2, 3):
        assert_same(launched, policy, prompts, SAMPLING.model_copy(update={"temperature": 0.0}), seed=seed)
        with torch.no_grad():
            for parameter in policy.core.get_decoder().parameters():
                parameter.mul_(1.05)
    assert policy.graphs.captured == len(policy.graphs._steps)


@pytest.mark.parametrize("family", tiny_models.EXACT)
def test_a_family_is_exact_and_samples_what_it_trains(folders, picture, family):
    """Log-probabilities and gradients of the packed row are those of plain rows, and of what was sampled by graphs."""
    policy = loaded(folders(family))
    groups = rollout(policy, asked(policy, picture), SAMPLING, seed=3)
    assert policy.graphs.captured > 0
    batch = pack(groups, policy.family)
    found = []
    for values in (
        lambda: packed_logprobs(policy, batch),
        lambda: torch.cat([plain_logprobs(policy, each) for each in groups]),
    ):
        policy.core.zero_grad(set_to_none=True)
        logprobs_S = values()
        (logprobs_S * torch.linspace(-1, 2, len(logprobs_S), device="cuda")).sum().backward()
        gradients = {name: each.grad.clone() for name, each in policy.core.named_parameters() if each.grad is not None}
        found.append((logprobs_S.detach().cpu(), gradients))
    (packed_S, packed), (plain_S, plain) = found
    assert (packed_S - plain_S).abs().max() <= 2e-5
    assert (packed_S - batch.sampled_logprobs_S).abs().max() <= 2e-5
    ours, theirs = (torch.cat([each[name].flatten() for name in plain]) for each in (packed, plain))
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize("attention", ["sdpa", "flash"])
def test_the_check_of_a_run_passes_in_bfloat16(folders, picture, attention):
    policy = loaded(folders("qwen2_5_vl"), dtype="bfloat16", attention=attention)
    (group, _) = rollout(policy, asked(policy, picture), SAMPLING, seed=3)
    assert check_packed(policy, group) <= 0.1


def test_the_kernel_of_torch_is_the_plain_one():
    """Values and gradients in bfloat16, two query heads a key head, questions of one image, empty segments."""
    lengths = torch.tensor([2, 3, 2, 0, *[0, 1, 1, 0], *[2, 0, 0, 1]])
    segments = find_segments(lengths, torch.tensor([-1, 0, 1, 1, *[-1, 0, 5, 5], *[-1, 8, 9, 9]])).to("cuda")
    drawn = torch.Generator("cuda").manual_seed(0)
    inputs = [
        torch.randn((1, heads, 12, 64), generator=drawn, device="cuda", dtype=torch.bfloat16) for heads in (4, 2, 2)
    ]
    found = []
    for kernel, dtype in ((varlen._torch_varlen, torch.bfloat16), (plain_kernel, torch.float32)):
        states = [each.detach().to(dtype).requires_grad_() for each in inputs]
        out = segments.attend(kernel, *states, 0.125)
        (out.float() * torch.linspace(-1, 1, out.numel(), device="cuda").view_as(out)).sum().backward()
        found.append([out.detach().float(), *(each.grad.float() for each in states)])
    for ours, plain in zip(*found, strict=True):
        assert (ours - plain).norm() <= 2e-2 * plain.norm()


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_no_step_of_decoding_waits(model_folder, graphs):
    """Torch's own count of waits does not grow with the number of tokens."""
    policy = loaded(model_folder, cuda_graphs=graphs)
    policy.token_bias_V[list(policy.end_ids)] = torch.finfo(torch.float32).min
    prompt = policy.processor.encode("how many red plus how many blue")

    def waits(tokens: int) -> int:
        sampling = SamplingConfig(group_size=3, max_new_tokens=tokens)
        rollout(policy, [prompt], sampling, seed=1)  # captures
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                rollout(policy, [prompt], sampling, seed=1)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(each.message) for each in told)

    assert waits(4) == waits(30) > 0


def test_a_rollout_that_does_not_fit_is_decoded_in_halves(folders, picture):
    """Memory is limited to less than all rows need."""
    sampling = SamplingConfig(group_size=1024, max_new_tokens=32, rows_at_once=4096)
    policy = loaded(folders("qwen2_5_vl"), cuda_graphs="off")
    prompts = asked(policy, picture)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    rollout(policy, prompts, sampling, seed=3)
    needed = torch.cuda.max_memory_allocated() - held
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.7 * needed) / total)
    groups = rollout(policy, prompts, sampling, seed=3)
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert policy.rows_that_fit is not None
    assert [len(group.completions) for group in groups] == [1024, 1024]
    batch = pack(groups, policy.family)
    with torch.no_grad():
        scored_S = packed_logprobs(policy, batch).cpu()
    assert (scored_S - batch.sampled_logprobs_S).abs().max() <= 2e-5


def test_the_estimate_of_a_forward_is_what_it_holds(folders, picture):
    """What `auto` counts for a micro-batch is at most MORE below what the allocator gives out."""
    policy = loaded(folders("qwen2_5_vl"), dtype="bfloat16")
    (group, _) = rollout(policy, asked(policy, picture), SamplingConfig(group_size=16, max_new_tokens=48), seed=3)
    counted = backward_bytes(policy, group)
    before = torch.cuda.memory_allocated()
    logprobs_S = packed_logprobs(policy, pack([group], policy.family))
    held = torch.cuda.memory_allocated() - before
    assert held <= MORE * counted + (1 << 20)
    assert counted <= 2 * held
    del logprobs_S
    assert 0 < free_memory(policy.device) <= torch.cuda.get_device_properties(0).total_memory
