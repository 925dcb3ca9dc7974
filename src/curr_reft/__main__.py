"""``python -m curr_reft``: the command line for launchers that start a module (accelerate launch -m, torchrun -m)."""

import sys

from curr_reft.cli import main

if __name__ == "__main__":
    sys.exit(main())
