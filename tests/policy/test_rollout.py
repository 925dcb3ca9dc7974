"""Sampling: equal to generation where it is greedy, repeatable, and scored as training will score it."""

import pytest
import torch

from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout
from curr_reft.policy.sampling import cut, draw

SAMPLING = SamplingConfig(group_size=4, max_new_tokens=12)


def tokens(groups):
    return [[completion.tokens_T.tolist() for completion in group.completions] for group in groups]


@pytest.fixture
def ending(fresh):
    """A policy that often ends early, so that rows leave the batch at different steps."""
    policy = fresh()
    policy.token_bias_V[policy.end_ids[0]] = 3.0
    return policy


def test_greedy_is_generate(policy, prompts):
    greedy = SAMPLING.model_copy(update={"temperature": 0.0, "group_size": 1})
    for group in rollout(policy, prompts, greedy, seed=0):
        prompt, inputs = group.prompt, {}
        if prompt.pixel_inputs:
            inputs["mm_token_type_ids"] = (prompt.input_ids_P == policy.core.config.image_token_id).int()[None]
        with torch.no_grad():
            out = policy.core.eval().generate(
                input_ids=prompt.input_ids_P[None],
                attention_mask=torch.ones(1, prompt.length, dtype=torch.int64),
                do_sample=False,
                max_new_tokens=12,
                suppress_tokens=policy.suppressed_ids,
                pad_token_id=policy.pad_id,
                **prompt.pixel_inputs,
                **inputs,
            )
        assert group.completions[0].tokens_T.tolist() == out[0, prompt.length :].tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.8, 0.0])
def test_stored_logprobs_are_those_of_training(ending, prompts, temperature):
    groups = rollout(ending, prompts, SAMPLING.model_copy(update={"temperature": temperature}), seed=3)
    batch = pack(groups, ending.family)
    assert batch.sampled_logprobs_S.dtype == torch.float32
    assert (packed_logprobs(ending, batch, temperature) - batch.sampled_logprobs_S).abs().max() <= 1e-5


def test_same_seed_same_tokens_however_rows_are_batched(ending, prompts):
    many = prompts * 3
    first = rollout(ending, many, SAMPLING, seed=5)
    assert tokens(rollout(ending, many, SAMPLING, seed=5)) == tokens(first)
    assert tokens(rollout(ending, many, SAMPLING.model_copy(update={"rows_at_once": 8}), seed=5)) == tokens(first)
    assert tokens(rollout(ending, many, SAMPLING, seed=6)) != tokens(first)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    rollout(ending, prompts, SAMPLING, seed=5)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are touched


def test_a_seed_for_each_completion_frees_it_from_its_place(ending, prompts):
    """What a completion is depends on its prompt and its seed, not on its neighbours or its place."""
    seeds = [[10 * p + g for g in range(4)] for p in range(len(prompts))]
    whole = tokens(rollout(ending, prompts, SAMPLING, seed=seeds))
    assert tokens(rollout(ending, prompts[::-1], SAMPLING, seed=seeds[::-1]))[::-1] == whole
    two = SAMPLING.model_copy(update={"group_size": 2})
    for part in (slice(0, 2), slice(2, 4)):
        halves = [row[part] for row in seeds]
        assert tokens(rollout(ending, prompts, two, seed=halves)) == [row[part] for row in whole]
    assert whole[0][0] != whole[0][1]  # other seed, other answer: else the rest shows nothing
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        rollout(ending, prompts, two, seed=seeds)


def test_plain_path_draws_the_same(ending, fresh, prompts):
    plain = fresh(packed=False)
    plain.token_bias_V = ending.token_bias_V
    expected, got = rollout(plain, prompts, SAMPLING, seed=7), rollout(ending, prompts, SAMPLING, seed=7)
    assert tokens(got) == tokens(expected)
    ours, theirs = (pack(groups, ending.family).sampled_logprobs_S for groups in (got, expected))
    assert (ours - theirs).abs().max() <= 1e-5


def test_rows_end_early(ending, prompts):
    sampling = SAMPLING.model_copy(update={"group_size": 8})
    completions = [c for group in rollout(ending, prompts, sampling, seed=1) for c in group.completions]
    lengths = {completion.length for completion in completions}
    assert len(lengths) > 3  # else this test shows nothing
    for completion in completions:
        ended = completion.tokens_T[-1].item() in ending.end_ids
        assert not set(completion.tokens_T[:-1].tolist()) & set(ending.end_ids)
        assert completion.truncated == (not ended)
        assert not completion.truncated or completion.length == 12
        assert completion.logprobs_T.shape == completion.tokens_T.shape
        assert not completion.tokens_T.is_inference()


def test_suppressed_tokens_are_never_sampled(fresh, prompts):
    """Even a head that wants nothing else."""
    policy = fresh()
    image = policy.core.config.image_token_id
    assert {image, policy.core.config.video_token_id, policy.pad_id} <= set(policy.suppressed_ids)
    assert not set(policy.suppressed_ids) & set(policy.end_ids)
    wanted = torch.tensor(policy.suppressed_ids)

    def want(module, args, output):
        output = output.clone()
        output[..., wanted] += 50.0
        return output

    policy.core.get_output_embeddings().register_forward_hook(want)
    for temperature in (0.0, 1.0):
        groups = rollout(policy, prompts, SAMPLING.model_copy(update={"temperature": temperature}), seed=0)
        assert not {t for group in tokens(groups) for row in group for t in row} & set(policy.suppressed_ids)


def test_one_vision_pass_for_a_shared_image(fresh, prompts):
    policy, rows = fresh(), []
    policy.core.model.visual.patch_embed.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    again = policy.processor.encode("list the objects")
    shared = type(again)(
        input_ids_P=prompts[0].input_ids_P.clone(),
        pixel_inputs=prompts[0].pixel_inputs,
        text="",
        positions_AP=prompts[0].positions_AP,
    )
    groups = rollout(policy, [prompts[0], again, shared], SAMPLING.model_copy(update={"temperature": 0.0}), seed=0)
    assert rows == [len(prompts[0].pixel_inputs["pixel_values"])]
    assert tokens(groups[:1]) == tokens(groups[2:])


def test_model_is_left_as_it_was(policy, prompts):
    policy.model.train()
    rollout(policy, prompts, SAMPLING, seed=0)
    assert policy.model.training
    assert not policy.core.model.visual._forward_hooks


def test_top_k_and_top_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert cut(logits, 1.0, 2).isfinite().tolist() == [[True, True, False, False]]
    assert cut(logits, 0.5, 0).isfinite().tolist() == [[True, False, False, False]]
    assert cut(logits, 0.51, 0).isfinite().tolist() == [[True, True, False, False]]
    assert cut(logits, 1.0, 9).isfinite().all()


def test_frequencies_are_those_of_the_policy():
    """4,000 draws against the softmax: chi-square with 3 degrees of freedom; 16 is passed by chance once in 900."""
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0]).log().expand(4000, -1)
    drawn, logprobs = draw(logits, torch.rand(4000, generator=torch.Generator().manual_seed(0)), SAMPLING)
    assert torch.allclose(logprobs, logits.gather(1, drawn[:, None])[:, 0], atol=1e-6)
    counts = drawn.bincount(minlength=5)
    expected = torch.tensor([1600.0, 1200.0, 800.0, 400.0])
    assert counts[4] == 0
    assert ((counts[:4] - expected) ** 2 / expected).sum() < 16
    edge, _ = draw(logits[:2], torch.tensor([0.0, 1 - 2**-24]), SAMPLING)
    assert edge.tolist() == [0, 3]
