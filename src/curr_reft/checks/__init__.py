"""What can be found wrong with a recipe before it costs anything, and what it will cost."""
