"""The model: load and save it, turn questions into tensors, sample groups of answers, and score them again."""
