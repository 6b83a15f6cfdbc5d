"""The summary: error rates, intervals, differences and convergence."""
