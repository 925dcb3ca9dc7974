"""What a variable-length kernel is told, by a plain implementation of its signature: the packed row does not change."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from curr_reft.errors import UsageError
from curr_reft.policy import varlen
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.varlen import choose_kernel, find_segments


def plain_kernel(query, key, value, query_bounds, key_bounds, longest_query, longest_key, scale):
    """Sequence by sequence, query by query: the last sees all keys, each one before it one fewer."""
    assert query_bounds.dtype == key_bounds.dtype == torch.int32
    assert (query_bounds.diff() > 0).all()
    assert (int(query_bounds.diff().max()), int(key_bounds.diff().max())) == (longest_query, longest_key)
    repeats = query.shape[1] // key.shape[1]
    out = []
    for q, k, v in zip(
        query.tensor_split(query_bounds[1:-1].long().cpu()),
        key.tensor_split(key_bounds[1:-1].long().cpu()),
        value.tensor_split(key_bounds[1:-1].long().cpu()),
        strict=True,
    ):
        for number in range(len(q)):
            seen = len(k) - len(q) + number + 1
            keys, values = (states[:seen].repeat_interleave(repeats, 1) for states in (k, v))
            weights = (torch.einsum("hd,shd->hs", q[number], keys) * scale).softmax(-1)
            out.append(torch.einsum("hs,shd->hd", weights, values))
    return torch.stack(out)


def test_segments_by_hand():
    """Two questions that share 2 tokens: 3 more and completions of 2 and 0 (one token is never an input), then 1 more
    and a completion of 1. Then a prompt that shares nothing: 2, no rest, and completions of 0 and 1."""
    lengths = torch.tensor([2, 3, 2, 0, *[0, 1, 1, 0], *[2, 0, 0, 1]])
    parents = torch.tensor([-1, 0, 1, 1, *[-1, 0, 5, 5], *[-1, 8, 9, 9]])
    segments = find_segments(lengths, parents)
    assert segments.query_bounds.tolist() == [0, 2, 5, 7, 8, 9, 11, 12]
    assert segments.key_bounds.tolist() == [0, 2, 7, 14, 17, 21, 23, 26]
    assert segments.key_index.tolist() == [
        *[0, 1],
        *[0, 1, 2, 3, 4],
        *[0, 1, 2, 3, 4, 5, 6],
        *[0, 1, 7],
        *[0, 1, 7, 8],
        *[9, 10],
        *[9, 10, 11],
    ]
    assert (segments.longest_query, segments.longest_key) == (3, 7)


def test_same_log_probabilities_and_gradients(fresh, groups):
    """Ragged groups, one of them with a completion of a single token, under gradient checkpointing too."""
    results = []
    for kernel in (None, plain_kernel):
        policy = fresh(gradient_checkpointing=kernel is not None)
        policy.kernel = kernel
        values = packed_logprobs(policy, pack(groups, policy.family))
        (values * torch.linspace(-1, 2, len(values))).sum().backward()
        results.append((values.detach(), [p.grad for p in policy.training_parameters() if p.grad is not None]))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert (ours - theirs).abs().max() <= 1e-5
    for one, other in zip(our_gradients, their_gradients, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-7
    plain = torch.cat([plain_logprobs(policy, group) for group in groups])
    assert (theirs - plain).abs().max() <= 1e-5


def test_a_wrong_key_shows(policy, groups):
    batch = pack(groups, policy.family)
    layout = batch.layout.using(plain_kernel)
    segments = replace(layout.segments, key_index=layout.segments.key_index.roll(1))
    wrong = replace(batch, layout=replace(layout, segments=segments))
    right = packed_logprobs(policy, batch)
    policy = replace(policy, kernel=plain_kernel)
    assert (packed_logprobs(policy, batch) - right).abs().max() <= 1e-5
    assert (packed_logprobs(policy, wrong) - right).abs().max() > 1e-2


def test_which_kernel_is_chosen(fresh, monkeypatch):
    cuda, half = torch.device("cuda"), torch.bfloat16
    assert fresh().kernel is None
    assert choose_kernel("auto", cuda, half) is None  # the package is not there
    assert choose_kernel("flash", cuda, half) is varlen._torch_varlen
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert choose_kernel("auto", cuda, half) is choose_kernel("flash", cuda, half) is varlen._flash_attn
    assert choose_kernel("auto", cuda, torch.float32) is None
    assert choose_kernel("auto", torch.device("cpu"), half) is None
    assert choose_kernel("sdpa", cuda, half) is None
    with pytest.raises(UsageError, match=r"model\.attention: 'flash' needs a GPU .*here: cpu, float32"):
        fresh(attention="flash")


def test_the_kernels_are_handed_what_they_ask_for(monkeypatch):
    """The names of arguments, by the signatures of flash-attn 2 and of torch."""
    told = {}

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False
    ):
        told.update(bounds=(cu_seqlens_q, cu_seqlens_k), longest=(max_seqlen_q, max_seqlen_k), causal=causal)
        return q * softmax_scale

    package = ModuleType("flash_attn")
    package.flash_attn_varlen_func = flash_attn_varlen_func
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    query, key = torch.ones(5, 4, 8), torch.ones(9, 2, 8)
    assert varlen._flash_attn(query, key, key, "q", "k", 3, 4, 0.5).unique().tolist() == [0.5]
    assert told == {"bounds": ("q", "k"), "longest": (3, 4), "causal": True}

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
        told.update(bounds=(cu_seq_q, cu_seq_k), longest=(max_q, max_k), window=window_size, grouped=enable_gqa)
        return query * scale

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    assert varlen._torch_varlen(query, key, key, "q", "k", 5, 6, 0.5).unique().tolist() == [0.5]
    assert told == {"bounds": ("q", "k"), "longest": (5, 6), "causal": True, "window": (-1, 0), "grouped": True}
    varlen._torch_varlen(query, query, query, "q", "k", 5, 5, 0.5)
    assert not told["grouped"]


def test_torch_2_11_is_not_told_of_shared_keys(monkeypatch):
    """Its ``varlen_attn`` has no keyword for it."""

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale, window_size):
        return query * scale

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    query, key = torch.ones(5, 4, 8), torch.ones(9, 2, 8)
    assert varlen._torch_varlen(query, key, key, "q", "k", 5, 6, 0.5).unique().tolist() == [0.5]


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 2), (4, 4)])
def test_the_kernel_of_torch_takes_what_it_is_told(heads, key_heads):
    """Its own checks of arguments and shapes, forward and backward, on tensors without memory."""
    query, key = (
        torch.empty((count, size, 64), device="meta", dtype=torch.bfloat16, requires_grad=True)
        for count, size in ((12, heads), (26, key_heads))
    )
    bounds = torch.empty(8, dtype=torch.int32, device="meta")
    out = varlen._torch_varlen(query, key, key, bounds, bounds, 3, 7, 0.125)
    out.sum().backward()
    assert out.shape == query.grad.shape == query.shape
    assert key.grad.shape == key.shape
