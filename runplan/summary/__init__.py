"""The plan as people read it: one content, shown on the screen and in the README."""
