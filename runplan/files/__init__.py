"""The files of a group: made as text, written so that runs appear whole or not at all, and read back."""
