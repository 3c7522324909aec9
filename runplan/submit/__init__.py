"""From a written group to submitted jobs."""
