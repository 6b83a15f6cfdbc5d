"""Training objectives: the loss functions that the stages minimise, one file for each."""
