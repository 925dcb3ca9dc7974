"""How long this core needs for the matrix products of a step, one after the other and nothing in between."""

import time
from collections.abc import Callable

import torch

from curr_reft.bench.work import Product, distinct

RUNS = 3  # the quickest counts: a bound is what the machine can do
LEAST = 0.004  # seconds a timing takes; short products are repeated in it


def seconds_of(products: list[Product]) -> float:
    """Seconds for all ``products`` at the rate measured for each shape."""
    return sum(each.times * _seconds(each) for each in distinct(products))


def _seconds(product: Product) -> float:
    if product.batch == 1:  # as a linear layer: the weight is stored N x K
        rows, weight = torch.randn(product.M, product.K), torch.randn(product.N, product.K)

        def once() -> None:
            torch.nn.functional.linear(rows, weight)
    else:
        left = torch.randn(product.batch, product.M, product.K)
        right = torch.randn(product.batch, product.K, product.N)

        def once() -> None:
            torch.bmm(left, right)

    with torch.inference_mode():
        return _quickest(once)


def _quickest(once: Callable[[], None]) -> float:
    started = time.perf_counter()
    once()
    repeats = max(1, int(LEAST / max(1e-9, time.perf_counter() - started)))
    best = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter()
        for _ in range(repeats):
            once()
        best = min(best, (time.perf_counter() - started) / repeats)
    return best
