"""What the runs of a group found: evaluation results, effects against the control, estimates against what came true."""
