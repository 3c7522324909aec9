"""What runs need and ask for, held against what is there: all problems at once. Pure."""
