"""The score interval of a proportion, and how many samples it takes to be sure of one.

Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22: all p for which the
observed share lies within z standard errors of p, the error being that of p itself:

    (share + z^2 / 2n  +-  z sqrt(share (1 - share) / n + z^2 / 4n^2)) / (1 + z^2 / n)

Unlike share +- z sqrt(share (1 - share) / n) it has a width where all samples agree: 8 right of 8 is at least 0.68.
"""

from math import ceil, sqrt
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)  # 95 %, two-sided: 1.96


def wilson(passes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a proportion of which ``n`` (at least 1) samples showed ``passes``."""
    assert 0 <= passes <= n
    assert n > 0
    share, spread = passes / n, Z * Z / n
    centre = share + spread / 2
    half = Z * sqrt(share * (1 - share) / n + spread / (4 * n))
    # The ends are exact where all agree; rounding must not put them beside 0 and 1.
    low = 0.0 if passes == 0 else (centre - half) / (1 + spread)
    high = 1.0 if passes == n else (centre + half) / (1 + spread)
    return low, high


def samples_for(bound: float) -> int:
    """The fewest samples that, all right, put the lower end at ``bound`` or above: n / (n + z^2) >= bound."""
    return ceil(bound * Z * Z / (1 - bound))
