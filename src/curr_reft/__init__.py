"""Curriculum Reinforcement Finetuning (Curr-ReFT, arXiv 2503.07065) for small vision-language models."""

__version__ = "0.1.0"
