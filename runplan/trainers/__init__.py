"""Training libraries: what their configuration files look like and what they can do."""
