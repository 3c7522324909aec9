"""runplan: from one Hydra command line to a verified, sized, ready-to-run group of fine-tuning runs."""
