"""Shaping by length: no charge inside a range, falling linearly to -1 outside of it.

With ``low`` 0 this is the soft overlong punishment of DAPO (arXiv 2503.14476, equation 13; there ``high`` is L_max -
L_cache and ``margin`` is L_cache). The lower end is this project's: a charge on long answers alone teaches to leave
the thinking out. A charge can only be avoided, never earned, so no length pays for a wrong answer.
"""


def length_part(count: int, low: int, high: int, margin: int) -> float:
    """In [-1, 0]: 0 for ``low`` to ``high`` words or tokens, -1 from ``margin`` beyond on, linear between."""
    outside = max(low - count, count - high, 0)
    return -min(outside / margin, 1.0)
