"""What a shell offers when its user presses Tab behind `runplan`."""
