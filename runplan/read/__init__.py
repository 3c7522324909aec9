"""The edge that looks at models, datasets, tasks, disk and trainer."""
