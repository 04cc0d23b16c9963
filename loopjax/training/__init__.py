"""Training of any objective: a step, the loop around it, checkpoints, metrics. Knows rows and objectives, not tasks."""
