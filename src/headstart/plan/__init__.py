"""The plan of a study before it runs: jobs, time, disk, memory, and what its claims can resolve."""
