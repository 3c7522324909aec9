"""The planning interview: questions as data and answers as override lines (pure), and a thin edge that asks them."""
