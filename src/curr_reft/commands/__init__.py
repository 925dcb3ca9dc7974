"""The commands, one file each: its arguments, and the one function of a room that it calls."""
