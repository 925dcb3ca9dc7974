"""Three steps on the same tokens end with TRL's weights (benchmarks/oracle.py does the same at a larger shape)."""

import pytest
import torch

from curr_reft.bench.oracle import RELATIVE, TOLERANCE, TRL_OF, agreement
from curr_reft.bench.shape import Shape

SHAPE = Shape(P=28, C=6, G=4)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("loss", TRL_OF)
def test_three_steps_end_with_the_weights_of_trl(loss: str) -> None:
    found = agreement(loss, SHAPE)
    assert found.difference <= TOLERANCE
    assert found.relative <= RELATIVE
    assert found.moved > 10 * TOLERANCE


def test_another_loss_would_be_seen() -> None:
    found = agreement("grpo", SHAPE, theirs_loss="dapo")
    assert found.difference > 5 * TOLERANCE
    assert found.relative > 20 * RELATIVE
