"""The decode steps of one rollout by replaying recorded ones: the fixed-shape twin of ``Advance``.

Rows that go on stand in the smallest rectangle a step is recorded for. Ended ones leave when the rest fits into a
smaller rectangle; when completions outgrow their buffer, all move on to the next length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from curr_reft.policy.advance import LEAVE_AT, Move, Prefilled
from curr_reft.policy.buckets import Bucket, count_bucket, prefix_bucket, suffix_bucket
from curr_reft.policy.fixed_layout import CacheShape, FixedLayout
from curr_reft.policy.graphs import MOST_BYTES, StepGraphs
from curr_reft.policy.lean import LeanText, find_lean
from curr_reft.policy.policy import Policy


def find_replayed(policy: Policy, prefilled: Prefilled, group_size: int, tokens: int) -> "Replayed | None":
    """The steps of a rollout of up to ``tokens`` tokens a completion; None where none are recorded: without graphs, for
    weights that are gathered for every rollout, models whose own modules are called, and where the buffers would take
    more than ``MOST_BYTES``."""
    if policy.graphs is None or policy.sharding is not None or tokens == 1:
        return None
    lean = find_lean(policy.core, join=False)  # joined projections are copies, which training would not move
    keys = next(iter(prefilled.keys.values()))[0]
    N, K, P, D = keys.shape
    shape = CacheShape(
        layers=tuple(prefilled.keys), heads=K, size=D, vocabulary=policy.vocabulary_size, dtype=keys.dtype
    )
    most = Bucket(
        groups=count_bucket(N),
        width=count_bucket(group_size),
        prefix=prefix_bucket(P),
        suffix=suffix_bucket(tokens - 1),  # the last token is never an input
    )
    if lean is None or shape.bytes(most) > MOST_BYTES:
        return None
    policy.graphs.begin(policy.core, shape, most)
    return Replayed(policy, policy.graphs, lean, prefilled, group_size)


@dataclass(frozen=True, kw_only=True)
class Relaid(Move):
    """A move into a rectangle of fixed shape."""

    groups: Sequence[int]  # the group that each group of the rectangle copies
    bucket: Bucket


class Replayed:
    """One decode step after the other: the token of each place -> the logits (A, V) of its next one, which hold until
    the next step."""

    def __init__(
        self, policy: Policy, graphs: StepGraphs, lean: LeanText, prefilled: Prefilled, group_size: int
    ) -> None:
        self.policy, self.graphs, self.lean = policy, graphs, lean
        self.keys = prefilled.keys
        self.lengths_N = prefilled.lengths_N
        self.first_A = prefilled.first_N.repeat_interleave(group_size)
        self.width = group_size  # place // width is its group
        self.prefix = prefix_bucket(next(iter(self.keys.values()))[0].shape[2])
        self.written = 0  # tokens of each completion that have been inputs
        self.layout: FixedLayout | None = None  # none: rows stand as prefill left them

    def move(self, going: list[int]) -> Relaid | None:
        """The batch to go on with when only the places ``going`` have not ended; None: the one there is."""
        places: dict[int, list[int]] = {}
        for place in going:
            places.setdefault(place // self.width, []).append(place)
        bucket = Bucket(
            groups=count_bucket(len(places)),
            width=count_bucket(max(map(len, places.values()))),
            prefix=self.prefix,
            suffix=suffix_bucket(self.written + 1),
        )
        if self.layout is not None and bucket.rows > (1 - LEAVE_AT) * self.layout.bucket.rows:
            return None
        sources: list[int] = []
        spare: list[bool] = []
        for own in [*places.values(), *[[]] * (bucket.groups - len(places))]:
            fill = bucket.width - len(own)
            sources += [*own, *[own[0] if own else going[0]] * fill]
            spare += [*[False] * len(own), *[True] * fill]
        groups = [source // self.width for source in sources[:: bucket.width]]
        return Relaid(sources=sources, spare=spare, groups=groups, bucket=bucket)

    def keep(self, move: Move, index_A: torch.Tensor) -> None:
        """Goes on with ``move``; ``index_A`` are its sources as a tensor."""
        assert isinstance(move, Relaid)
        before, self.layout = self.layout, self.graphs.layout(move.bucket)
        self.layout.take_prompts(self.keys, move.groups, self.lengths_N)
        if before is not None:
            self.layout.take_rows(before, index_A, self.written)
        self.keys = self.layout.prefix
        self.lengths_N = self.lengths_N[torch.tensor(move.groups, device=index_A.device)]
        self.first_A = self.first_A[index_A]
        self.layout.positions_A.copy_(self.first_A)
        self.width = move.bucket.width

    def __call__(self, tokens_A: torch.Tensor) -> torch.Tensor:
        assert self.layout is not None
        if self.written == self.layout.bucket.suffix:
            before, self.layout = self.layout, self.graphs.layout(self.layout.bucket.with_suffix(self.written + 1))
            self.layout.take_rows(before, torch.arange(len(tokens_A), device=tokens_A.device), self.written)
        self.layout.tokens_A.copy_(tokens_A)
        self.layout.step.fill_(self.written)
        step = self.graphs.step(self.policy.core, self.lean, self.layout, self.policy.family.axes)
        step.replay()
        self.written += 1
        return step.layout.logits_AV
