"""While a workflow runs: what its jobs do, how far they are and how long they still take."""
