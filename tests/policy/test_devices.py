"""What a GPU would make of this: where every tensor lies, when the host waits, what a captured step reads.

On a pretended one (``pretended_gpu.py``), whose outcomes are compared with those of the CPU. The last tests hold the
pretence itself: what would break on a GPU breaks here.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_models
import torch
import torch.nn.functional as F
from pretended_gpu import PretendedGpu, pretended_gpu

from curr_reft.policy import graphs as recording
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.ended import Ended
from curr_reft.policy.fixed_layout import MaskedStep
from curr_reft.policy.graphs import record
from curr_reft.policy.load import load_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt, Group
from curr_reft.policy.windows import attend_windows
from curr_reft.train.back_off import _backward
from curr_reft.train.losses import log_ratio, policy_loss
from curr_reft.train.master_weights import MasterWeights
from curr_reft.train.objective import MicroBatch

SAMPLING = SamplingConfig(group_size=3, max_new_tokens=6)
DEFAULT = ("qwen2_5_vl", "qwen3_vl", "smolvlm", "llava_onevision")  # what families differ in; the others are long
FAMILIES = [each if each in DEFAULT else pytest.param(each, marks=pytest.mark.slow) for each in tiny_models.EXACT]
MOVES = {"packing.py", "attention.py", "sample.py", "logprobs.py"}  # what a batch is made of goes to the device
ONCE = {"rows.py", "windows.py", "decode.py", "replayed.py", "fixed_layout.py"}  # a rollout, or a change of its rows


def on_gpu(folder, **options) -> Policy:
    return load_policy(ModelConfig(path=str(folder), device="cuda", **options))


def asked(policy: Policy, picture) -> list[EncodedPrompt]:
    """Two questions about the same images, and one without."""
    encode, images = policy.processor.encode, [picture(0), picture(1, 56, 112)]
    first, second = (encode(question, images) for question in ("find the red circle", "find the blue"))
    return [first, encode("how many blue"), replace(second, pixel_inputs=first.pixel_inputs)]


def gradients(policy: Policy, groups: Sequence[Group]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logprobs_S = packed_logprobs(policy, pack(groups, policy.family))
    weights_S = torch.linspace(-1, 2, len(logprobs_S), device=policy.device)
    (logprobs_S * weights_S).sum().backward()
    found = {name: each.grad for name, each in policy.core.named_parameters() if each.grad is not None}
    return logprobs_S.detach(), found


def waits(gpu: PretendedGpu) -> set[str]:
    """Files of this package that waited."""
    return {each.file for each in gpu.waits if each.ours}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rollout_and_a_backward(folders, picture, family):
    """Nothing lies on the wrong device, captured steps sample the same tokens, and gradients are the same."""
    cpu = load_policy(folders(family))
    theirs = rollout(cpu, asked(cpu, picture), SAMPLING, seed=3)
    their_logprobs_S, their_gradients = gradients(cpu, theirs)
    with pretended_gpu() as gpu:
        policy = on_gpu(folders(family))
        prompts = asked(policy, picture)
        gpu.waits.clear()
        ours = rollout(policy, prompts, SAMPLING, seed=3)
        assert policy.graphs is not None
        assert policy.graphs.captured > 0
        assert waits(gpu) <= MOVES | ONCE
        gpu.waits.clear()
        logprobs_S, found = gradients(policy, ours)
        assert waits(gpu) <= MOVES | {"windows.py"}
        assert {each.what for each in gpu.waits if each.file == "logprobs.py"} == set()
        assert all(gpu.has(each) for each in found.values())
        logprobs_S = logprobs_S.cpu()
    for mine, yours in zip(ours, theirs, strict=True):
        for one, other in zip(mine.completions, yours.completions, strict=True):
            assert torch.equal(one.tokens_T, other.tokens_T)
            assert (one.logprobs_T - other.logprobs_T).abs().max() <= 1e-5
    assert (logprobs_S - their_logprobs_S).abs().max() <= 2e-5
    assert found.keys() == their_gradients.keys()
    of_all = [torch.cat([each[name].flatten() for name in found]) for each in (found, their_gradients)]
    assert (of_all[0] - of_all[1]).norm() <= 1e-4 * of_all[1].norm()


@pytest.mark.parametrize(
    ("kept", "options"),
    [("prompts", {}), (None, {"gradient_checkpointing": True, "lora": LoraConfig(rank=4)}), (None, {"packed": False})],
    ids=["from the pass of the rollout", "adapters computed again", "plain"],
)
def test_other_ways_to_train(model_folder, picture, kept, options):
    """From the rollout's pass over the prompts; a reference, activations computed again; rows by themselves."""
    with pretended_gpu() as gpu:
        policy = on_gpu(model_folder, **options)
        groups = rollout(policy, asked(policy, picture), SAMPLING, seed=3, graph=kept)
        logprobs_S, found = gradients(policy, groups)
        assert all(gpu.has(each) for each in found.values())
        assert (logprobs_S.cpu() - pack(groups, policy.family).sampled_logprobs_S).abs().max() <= 1e-5
        if "lora" in options:
            with policy.reference() as anchor, torch.no_grad():
                assert gpu.has(packed_logprobs(anchor, pack(groups, policy.family)))


def test_steps_of_bfloat16_weights_that_train(model_folder, picture):
    """Rollout, backward, AdamW on float32 copies, and a rollout by the graphs of the first."""
    with pretended_gpu():
        policy = on_gpu(model_folder, dtype="bfloat16")
        weights = MasterWeights(policy.model)
        optimizer = torch.optim.AdamW(weights.held.values(), lr=1e-2, fused=True)
        captured = None
        for seed in (1, 2):
            groups = rollout(policy, asked(policy, picture), SAMPLING, seed=seed)
            assert policy.graphs is not None
            captured = captured or policy.graphs.captured
            assert policy.graphs.captured == captured
            batch = pack(groups, policy.family)
            with torch.no_grad():
                scored_S = packed_logprobs(policy, batch)
            assert (scored_S.cpu() - batch.sampled_logprobs_S).abs().mean() <= 0.05
            gradients(policy, groups)
            weights.take_gradients()
            torch.nn.utils.clip_grad_norm_(weights.held.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            weights.give_back()


@pytest.fixture(scope="module")
def never_ends(model_folder):
    """For each number of tokens, the waits of a rollout none of whose completions ends."""

    def count(tokens: int, **options: str) -> int:
        policy = on_gpu(model_folder, **options)
        policy.token_bias_V[list(policy.end_ids)] = torch.finfo(torch.float32).min
        prompt = policy.processor.encode("how many red plus how many blue")
        gpu.waits.clear()
        rollout(policy, [prompt], SAMPLING.model_copy(update={"max_new_tokens": tokens}), seed=1)
        return len(gpu.waits)

    with pretended_gpu() as gpu:
        yield count


@pytest.mark.parametrize("graphs", ["auto", "off"])
def test_no_step_of_decoding_waits(never_ends, graphs):
    """However many there are."""
    assert never_ends(3, cuda_graphs=graphs) == never_ends(8, cuda_graphs=graphs) > 0


def test_captured_steps_go_on_when_rows_leave(model_folder, prompts):
    """Ragged ends, places without a row, several graphs of one pool: as on the CPU."""
    sampling = SamplingConfig(group_size=5, max_new_tokens=12)
    launched = load_policy(model_folder)
    launched.token_bias_V[launched.end_ids[0]] = 4.0
    theirs = rollout(launched, prompts, sampling, seed=3)
    with pretended_gpu():
        policy = on_gpu(model_folder)
        policy.token_bias_V[policy.end_ids[0]] = 4.0
        ours = rollout(policy, prompts, sampling, seed=3)
        assert policy.graphs is not None
        assert policy.graphs.captured > 2
    a, b = (pack(each, launched.family) for each in (theirs, ours))
    assert torch.equal(a.targets_S, b.targets_S)
    assert (a.sampled_logprobs_S - b.sampled_logprobs_S).abs().max() <= 1e-5


def test_a_step_that_cannot_be_captured_is_launched(model_folder, prompts, monkeypatch, caplog):
    """The tokens are the same, as they are drawn beforehand."""
    theirs = rollout(load_policy(model_folder), prompts[2:], SAMPLING, seed=3)

    def refuse(*args, **kwargs):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    with pretended_gpu():
        policy = on_gpu(model_folder)
        monkeypatch.setattr(torch.cuda, "graph", refuse)
        ours = rollout(policy, prompts[2:], SAMPLING, seed=3)
        assert policy.graphs is None
    assert [c.text for g in ours for c in g.completions] == [c.text for g in theirs for c in g.completions]
    (warning,) = [each.message for each in caplog.records if "captured" in each.message]
    assert "(CUDA error: operation not permitted when stream is capturing)" in warning
    assert "model.cuda_graphs: off" in warning


def test_memory_that_runs_out_in_a_capture_is_memory_that_runs_out(model_folder, prompts, monkeypatch, caplog):
    """Though the capture, which cannot be ended then, says something else. Graphs stay."""
    real = torch.cuda.graph

    class Full:
        def __init__(self, *args, **kwargs):
            self.inner = real(*args, **kwargs)

        def __enter__(self):
            self.inner.__enter__()
            raised.append(1)
            try:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            finally:
                self.inner.__exit__(None, None, None)
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

        def __exit__(self, *args): ...

    raised: list[int] = []
    with pretended_gpu():
        real = torch.cuda.graph
        policy = on_gpu(model_folder)
        monkeypatch.setattr(torch.cuda, "graph", lambda *a, **k: (Full if not raised else real)(*a, **k))
        rollout(policy, prompts[2:], SAMPLING.model_copy(update={"max_new_tokens": 3}), seed=3)
        assert raised == [1]
        assert policy.graphs is not None
        assert policy.graphs.captured > 0
        assert policy.rows_that_fit == 1
    assert "out of memory" in caplog.text


def test_micro_batches_are_launched_without_waiting(model_folder, groups):
    """The sums of a step are read when all of its backward passes are on their way."""
    with pretended_gpu() as gpu:
        policy = on_gpu(model_folder)

        def loss(batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            logprobs_S = packed_logprobs(policy, batch.packed)
            return logprobs_S.sum(), {"kl": logprobs_S.detach().mean()}

        batches = []
        for group in groups:
            packed = pack([group], policy.family).to(policy.device)
            batches.append(MicroBatch(packed=packed, weights_S=torch.ones(len(packed.targets_S), device=policy.device)))
        gpu.waits.clear()
        accelerator = SimpleNamespace(backward=lambda loss: loss.backward())
        sums = _backward(SimpleNamespace(loss=loss), accelerator, batches)
        assert sums["loss"] < 0
        read = [place for place, each in enumerate(gpu.waits) if each.file == "back_off.py"]
        assert read == list(range(len(gpu.waits) - 2 * len(batches), len(gpu.waits)))


@pytest.mark.parametrize("variant", ["grpo", "gspo"])
def test_the_loss_asks_the_gpu_for_nothing(variant):
    """Not for the number of completions either."""
    with pretended_gpu() as gpu:
        logprobs_S = torch.linspace(-3, -1, 6, device="cuda").requires_grad_()
        completion_S = torch.arange(6, device="cuda") // 2
        gpu.waits.clear()
        ratio_S = log_ratio(logprobs_S, logprobs_S.detach() - 0.1, completion_S, variant)
        policy_loss(ratio_S, torch.ones_like(ratio_S), 0.2, 0.2).sum().backward()
        assert gpu.waits == []
        assert gpu.has(logprobs_S.grad)


def test_layers_of_a_tower_wait_once_for_the_bounds_of_their_windows():
    with pretended_gpu() as gpu:
        states = torch.ones((1, 2, 12, 8), device="cuda")
        bounds = torch.tensor([0, 4, 8, 12], dtype=torch.int32, device="cuda")
        gpu.waits.clear()
        for _ in range(3):
            attend_windows(torch.nn.Identity(), states, states, states, None, cu_seq_lens_q=bounds)
        assert [each.file for each in gpu.waits] == ["windows.py"]


def test_windows_of_one_size_are_one_call_wherever_they_stand(monkeypatch):
    """Two rows of windows whose last one is narrower: two calls, and what each computes by itself."""
    drawn = torch.Generator().manual_seed(0)
    lengths = [4, 4, 2, 4, 4, 2]
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    query, key, value = torch.randn((3, 20, 2, 8), generator=drawn).transpose(1, 2)[:, None]
    with pretended_gpu():
        states = [each.to("cuda").requires_grad_() for each in (query, key, value)]
        calls, attend = [], F.scaled_dot_product_attention
        monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or attend(*a, **k))
        out, _ = attend_windows(torch.nn.Identity(), *states, None, cu_seq_lens_q=bounds.to("cuda"))
        (out * torch.linspace(-1, 1, 20, device="cuda")[:, None, None]).sum().backward()
        found = [each.cpu() for each in (out.detach(), *(each.grad for each in states))]
    assert len(calls) == 2
    plain = [each.clone().requires_grad_() for each in (query, key, value)]
    parts = zip(*(each.split(lengths, 2) for each in plain), strict=True)
    wanted = torch.cat([attend(*part) for part in parts], 2).transpose(1, 2)
    (wanted * torch.linspace(-1, 1, 20)[:, None, None]).sum().backward()
    for ours, theirs in zip(found, (wanted.detach(), *(each.grad for each in plain)), strict=True):
        assert (ours - theirs).abs().max() <= 1e-6


def test_a_mask_is_the_same_for_all_layers(model_folder, picture):
    """Its rows begin where SDPA wants them, so that no layer makes and keeps a copy of it. Norms are torch's own."""
    cpu = load_policy(model_folder)
    encode = cpu.processor.encode
    groups = rollout(cpu, [encode("list", [picture(0)]), encode("how many", [picture(0)])], SAMPLING, seed=3)
    with pretended_gpu(), pytest.MonkeyPatch.context() as patch:
        policy = on_gpu(model_folder)
        masks, norms = [], []
        attend, norm = F.scaled_dot_product_attention, F.rms_norm
        patch.setattr(
            F, "scaled_dot_product_attention", lambda *a, **k: masks.append(k.get("attn_mask")) or attend(*a, **k)
        )
        patch.setattr(F, "rms_norm", lambda *a, **k: norms.append(1) or norm(*a, **k))
        batch = pack(groups, policy.family)
        packed_logprobs(policy, batch)
    masks = [each for each in masks if each is not None]
    assert len(masks) == policy.core.config.get_text_config().num_hidden_layers
    assert len({id(each) for each in masks}) == 1
    assert masks[0].shape[-1] % 8  # else this would hold nothing
    assert all(stride % 8 == 0 for stride in masks[0].stride()[:-1])
    assert len(norms) > len(masks)


# The pretence itself


def test_what_lies_elsewhere_shows(model_folder, monkeypatch):
    """A mask on the CPU in a decode step."""
    attend = MaskedStep.attend_rows

    def elsewhere(masked, *args):
        return attend(replace(masked, mask_NS=masked.mask_NS.cpu()), *args)

    monkeypatch.setattr(MaskedStep, "attend_rows", elsewhere)
    monkeypatch.setattr(recording, "WARM", 1)
    with pretended_gpu():
        policy = on_gpu(model_folder)
        with pytest.raises(RuntimeError, match="on cuda:0 and on the cpu"):
            rollout(policy, [policy.processor.encode("how many red")], SAMPLING, seed=1)


def test_a_wait_in_a_capture_shows(model_folder, monkeypatch, caplog):
    attend = MaskedStep.attend_rows

    def waiting(masked, *args):
        assert int(masked.layout.step) >= 0
        return attend(masked, *args)

    monkeypatch.setattr(MaskedStep, "attend_rows", waiting)
    with pretended_gpu():
        policy = on_gpu(model_folder)
        rollout(policy, [policy.processor.encode("how many red")], SAMPLING, seed=1)
    assert "not permitted when stream is capturing: __int__ on the host" in caplog.text


def test_what_a_graph_does_not_know_shows():
    """A number of Python is that of the capture; memory that nobody holds is gone; what lies in the pool is lost."""
    device = torch.device("cuda", 0)
    with pretended_gpu():
        source, outcome, number = torch.arange(4.0, device=device), torch.zeros(4, device=device), 1
        lent, between = [torch.ones(4, device=device)], []
        pool = torch.cuda.graph_pool_handle()

        def run() -> None:
            between.append(source * number)
            outcome.copy_((between[-1] + lent[0]) * 2)

        replay = record(run, device, pool)
        made = between[-1]
        number = 5
        source += 1
        replay()
        assert outcome.tolist() == [4.0, 6.0, 8.0, 10.0]
        assert made.tolist() == [1.0, 2.0, 3.0, 4.0]
        record(lambda: between.append(source + 1), device, pool)()
        assert made.isnan().all()  # the pool is theirs together
        replay()
        assert outcome.tolist() == [4.0, 6.0, 8.0, 10.0]
        lent.clear()
        with pytest.raises(RuntimeError, match="memory that was freed"):
            replay()


def test_flags_are_there_when_their_event_was_waited_for(monkeypatch):
    with pretended_gpu():
        ended = Ended(2, late=True)
        told = [torch.tensor(flags, device="cuda") for flags in ([True, False], [True, True], [True, True])]
        assert ended.tell(told[0]) == [False, False]
        assert ended.tell(told[1]) == [True, False]
        monkeypatch.setattr(torch.cuda.Event, "synchronize", lambda event: None)
        assert ended.tell(told[2]) != [True, True]  # read too early
