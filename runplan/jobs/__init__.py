"""Jobs of a group: their scripts, what they ask for, and what became of them."""
