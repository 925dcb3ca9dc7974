"""A first recipe for somebody's own data: what the rows are is found out and said, never guessed in silence."""
