"""Random numbers by name. Every draw is a function of (seed, names...), so a resumed run draws the same ones."""

import hashlib
import random


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called ``names``; equal names give equal seeds on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> random.Random:
    """A fresh generator for the stream called ``names``."""
    return random.Random(derive_seed(seed, *names))
