"""Three optimizer steps on the same tokens, ours and TRL's: the largest difference of any weight, for each loss.

    python benchmarks/oracle.py [--shape 97,16,8] [--steps 3]

Exit code 1 when a difference is above 1e-6, or all together above a thousandth of the moves.
"""

import argparse
import sys

import torch

from curr_reft.bench.oracle import RELATIVE, TOLERANCE, TRL_OF, agreement
from curr_reft.bench.shape import parse_shape


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="97,16,8", help="P,C,G; completions have 2 to C tokens")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| loss | largest difference of a weight | largest move | all differences over all moves |\n|---|---|---|---|"
    )
    agree = True
    for loss in TRL_OF:
        found = agreement(loss, parse_shape(arguments.shape), steps=arguments.steps)
        print(f"| {loss} | {found.difference:.1e} | {found.moved:.1e} | {found.relative:.1e} |", flush=True)
        agree &= found.difference <= TOLERANCE and found.relative <= RELATIVE
    return int(not agree)


if __name__ == "__main__":
    sys.exit(main())
