"""The evidence of a run as one page and one model card, made from the files of its directory and nothing else."""
