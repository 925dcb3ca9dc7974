"""Hands a trained model on: as a plain folder (``merge.py``), and to a model hub (``push.py``)."""
