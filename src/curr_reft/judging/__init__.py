"""Judging by itself: rows from files, and how far a judge can be trusted."""
