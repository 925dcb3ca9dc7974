"""Tokens of prompts as bars of text, one row of bars for each form."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curr_reft.checks.costs import quantiles
from curr_reft.policy.counting import Count

BINS = 8
WIDTH = 40  # characters of the longest bar


def edges_of(counts: Sequence[Count]) -> list[int]:
    """Ends of at most ``BINS`` bins of equal, round width over all prompts, ascending."""
    low, high = min(count.tokens for count in counts), max(count.tokens for count in counts)
    width = _round_up(max(1, high - low + 1) / BINS)
    start = low // width * width
    return list(range(start, high + width + 1, width))


def histogram(counts: Sequence[Count], edges: Sequence[int]) -> list[int]:
    """How many prompts lie in each bin: from an edge on, below the next."""
    found = [0] * (len(edges) - 1)
    for count in counts:
        found[(count.tokens - edges[0]) // (edges[1] - edges[0])] += 1
    return found


def lines(by_form: Mapping[str, Sequence[Count]], limit: int) -> Iterator[str]:
    """The page's part about tokens. ``limit`` is the most the model takes."""
    whole = [count for counts in by_form.values() for count in counts]
    edges = edges_of(whole)
    bins = {form: histogram(counts, edges) for form, counts in by_form.items()}
    largest = max(max(each) for each in bins.values())
    yield f"  tokens of a prompt, images included; the model takes {limit:,}"
    for form, counts in by_form.items():
        told = quantiles(counts)
        over = sum(count.tokens > limit for count in counts)
        yield (
            f"    {form}: {told['prompts']:,} prompts, min {told['min']:,}, median {told['median']:,.0f}, "
            f"p95 {told['p95']:,}, max {told['max']:,}" + (f", {over:,} over the limit" if over else "")
        )
        for start, end, count in zip(edges, edges[1:], bins[form], strict=False):
            if count:
                bar = "#" * max(1, round(WIDTH * count / largest))
                yield f"      {start:>7,} to {end - 1:>7,} {bar} {count:,}"


def numbers(by_form: Mapping[str, Sequence[Count]]) -> dict[str, Any]:
    """The same for JSON."""
    edges = edges_of([count for counts in by_form.values() for count in counts])
    return {
        "edges": edges,
        "forms": {
            form: {**quantiles(counts), "histogram": histogram(counts, edges)} for form, counts in by_form.items()
        },
    }


def _round_up(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ..."""
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale >= value:
                return step * scale
        scale *= 10
