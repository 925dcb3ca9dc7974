"""Advantages and losses against TRL's own code on the same tensors, and against the formulas."""

import statistics
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOTrainer

from curr_reft.train.losses import STD_FLOOR, group_advantages, k3, log_ratio, policy_loss, token_weights

LENGTHS = [5, 2, 7, 3]
T = max(LENGTHS)
LIMIT = 9


def trl_loss(
    loss: str, logprobs: torch.Tensor, old: torch.Tensor, reference: torch.Tensor, advantages: torch.Tensor, beta: float
) -> torch.Tensor:
    """``GRPOTrainer._compute_loss`` of TRL 1.16 with the model's forward replaced by given log-probabilities."""
    mask = torch.tensor([[1.0] * length + [0.0] * (T - length) for length in LENGTHS])
    identity = SimpleNamespace(gather=lambda x: x, num_processes=1, reduce=lambda x, **_: x, device="cpu")
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprobs, torch.zeros_like(logprobs), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="sequence" if loss == "gspo" else "token",
        beta=beta,
        loss_type="grpo" if loss == "gspo" else loss,
        epsilon_low=0.2,
        epsilon_high=0.3,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=LIMIT,
        accelerator=identity,
        _entropy_bonus_enabled=False,
        use_adaptive_entropy=False,
        _metrics={"train": __import__("collections").defaultdict(list), "eval": {}},
    )
    ids = torch.zeros(len(LENGTHS), T, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones(len(LENGTHS), 1),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "gspo"])
def test_loss_and_gradient_equal_those_of_trl(loss: str, beta: float) -> None:
    generator = torch.Generator().manual_seed(1)
    padded = -torch.rand(len(LENGTHS), T, generator=generator) * 2
    old = padded + 0.4 * torch.randn(padded.shape, generator=generator)  # far enough that clipping acts
    reference = padded + 0.3 * torch.randn(padded.shape, generator=generator)
    advantages = torch.tensor([1.2, -0.7, 0.3, -0.8])
    theirs_input = padded.clone().requires_grad_()
    theirs = trl_loss(loss, theirs_input, old, reference, advantages, beta)
    theirs.backward()

    flat = torch.cat([torch.arange(length) + row * T for row, length in enumerate(LENGTHS)])
    sizes = torch.tensor(LENGTHS)
    ours_input = padded.clone().requires_grad_()
    logprobs_S = ours_input.flatten()[flat]
    completion_S = torch.arange(len(LENGTHS)).repeat_interleave(sizes)
    weights_S = torch.tensor(token_weights(LENGTHS, loss, LIMIT)).repeat_interleave(sizes)
    ratio_S = log_ratio(logprobs_S, old.flatten()[flat], completion_S, loss)
    losses_S = policy_loss(ratio_S, advantages.repeat_interleave(sizes), 0.2, 0.3)
    losses_S = losses_S + beta * k3(logprobs_S, reference.flatten()[flat])
    ours = (losses_S * weights_S).sum()
    ours.backward()

    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours_input.grad, theirs_input.grad, atol=1e-6, rtol=1e-6)
    assert ours_input.grad.abs().sum() > 0


def test_on_policy_ratio_is_one_and_has_a_gradient() -> None:
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    ratio = log_ratio(logprobs, None, None, "grpo").exp()
    assert ratio.tolist() == [1.0, 1.0]
    ratio.sum().backward()
    assert logprobs.grad.tolist() == [1.0, 1.0]


def test_advantages_follow_the_formula() -> None:
    rewards = [1.5, 0.5, 0.0, 1.0]
    deviation = statistics.stdev(rewards)
    expected = [(r - statistics.mean(rewards)) / (deviation + STD_FLOOR) for r in rewards]
    assert group_advantages(rewards) == pytest.approx(expected)
    assert group_advantages(rewards, scale=False) == pytest.approx([r - 0.75 for r in rewards])


def test_a_completion_without_score_stays_out() -> None:
    with_gap = group_advantages([1.0, None, 0.0])
    assert with_gap[1] is None
    assert [with_gap[0], with_gap[2]] == group_advantages([1.0, 0.0])


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.3, None, None]])
def test_groups_without_difference_teach_nothing(rewards: list[float | None]) -> None:
    assert not any(group_advantages(rewards))
