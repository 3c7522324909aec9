"""What a machine has that runplan needs to know once: `runplan init` looks for it and writes a site file."""
