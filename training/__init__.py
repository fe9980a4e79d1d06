"""Making role checkpoints: tasks and data, the global and local training stages, evaluation."""
