"""One training loop, its objectives (GRPO, SFT) and its checkpoints."""
