"""The rows that a rollout is sampling: their tokens so far, where they stand in the batch, and what is left of them."""

from typing import NamedTuple

import torch

from curr_reft import stopping
from curr_reft.errors import TrainingError
from curr_reft.policy.advance import Move
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.ended import Ended, looks_late
from curr_reft.policy.logprobs import policy_logits
from curr_reft.policy.policy import Policy
from curr_reft.policy.sampling import draw


class Sampled(NamedTuple):
    """A finished row. CPU tensors."""

    tokens_T: torch.Tensor  # int64, the end token included
    logprobs_T: torch.Tensor  # float32
    truncated: bool


class Rows:
    """N rows, and a spare one that takes what is computed at places without a row.

    ``uniform_NT``: the random number of each row and token.
    """

    def __init__(self, policy: Policy, sampling: SamplingConfig, uniform_NT: torch.Tensor) -> None:
        (N, T), device = uniform_NT.shape, policy.device
        self.policy, self.sampling = policy, sampling
        self.uniform_NT = torch.cat((uniform_NT, torch.zeros(1, T))).to(device)
        self.ends = torch.tensor(policy.end_ids, device=device)
        self.tokens_NT = torch.zeros((N + 1, T), dtype=torch.int64, device=device)
        self.logprobs_NT = torch.zeros((N + 1, T), device=device)
        self.row_A = torch.arange(N, device=device)  # the row at each place of the batch
        self.ended_A = torch.zeros(N, dtype=torch.bool, device=device)
        self.known = Ended(N, looks_late(device))

    def draw(self, logits_AV: torch.Tensor, step: int) -> torch.Tensor:
        """Samples token ``step`` of every place and notes it (what follows an end is cut later). Returns tokens_A."""
        logits_AV = policy_logits(logits_AV, self.policy.token_bias_V, self.sampling.temperature)
        tokens_A, logprobs_A = draw(logits_AV, self.uniform_NT[self.row_A, step], self.sampling)
        self.tokens_NT[self.row_A, step] = tokens_A
        self.logprobs_NT[self.row_A, step] = logprobs_A
        self.ended_A = self.ended_A | torch.isin(tokens_A, self.ends)
        return tokens_A

    def going(self) -> list[int]:
        """Places that are not known to have ended. Ask once after every draw; a run that is to stop does so here."""
        stopping.point()
        return [place for place, ended in enumerate(self.known.tell(self.ended_A)) if not ended]

    def keep(self, move: Move) -> torch.Tensor:
        """Goes on with the batch of ``move``; returns its sources as an index."""
        device = self.row_A.device
        index_A, spare_A = torch.tensor(move.sources, device=device), torch.tensor(move.spare, device=device)
        self.row_A = self.row_A[index_A].masked_fill(spare_A, len(self.tokens_NT) - 1)
        self.ended_A = self.ended_A[index_A] | spare_A
        self.known.move(move.spare)
        return index_A

    def finish(self) -> list[Sampled]:
        """All rows in order, each cut after its first end. Raises TrainingError where the model gave no numbers."""
        tokens_NT, logprobs_NT = self.tokens_NT[:-1].cpu(), self.logprobs_NT[:-1].cpu()
        ends_NT = torch.isin(tokens_NT, self.ends.cpu())
        ended_N = ends_NT.any(1).tolist()
        first_N = ends_NT.int().argmax(1).tolist()
        T = tokens_NT.shape[1]
        lengths = [first + 1 if ended else T for first, ended in zip(first_N, ended_N, strict=True)]
        sampled = [
            Sampled(tokens_NT[row, :length].clone(), logprobs_NT[row, :length].clone(), not ended_N[row])
            for row, length in enumerate(lengths)
        ]
        if not all(bool(each.logprobs_T.isfinite().all()) for each in sampled):
            raise TrainingError(
                "the model's probabilities are not numbers: a weight is NaN or infinite, or a value computed from one. "
                "Where training did that, begin a new run (--output) with a lower optimizer.lr or model.dtype float32"
            )
        return sampled
