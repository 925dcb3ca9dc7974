"""The evidence of a run as one page and one model card, made from the files of its directory and nothing else."""

from curr_reft.report.build import build_report
from curr_reft.report.card import write_card

__all__ = ["build_report", "write_card"]
