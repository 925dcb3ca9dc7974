"""The order of the training: stages, gates, replay, validation, hand-over."""
