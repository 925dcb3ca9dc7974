"""Greedy answers, strict metrics, intervals, the summary."""
