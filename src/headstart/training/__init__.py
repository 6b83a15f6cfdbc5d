"""Training: the loop that all stages share, and what a job needs around it."""
