"""How hard a question is: an Item in the form binary, choice or open, the text of it, and how its answer is read."""
