"""A training step of ours against one of TRL's: the same weights, prompts, images and numbers of tokens."""
