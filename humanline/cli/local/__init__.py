"""What a workflow does on its own machine: the worker, locks, and the lifeline of its jobs."""
