"""Rows in, Items out: the only room that knows files, row styles and image formats."""
