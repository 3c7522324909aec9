"""What a group is doing: `runplan status`."""
