"""Import paths of 3.x. What stands here hands names on and does nothing else."""
