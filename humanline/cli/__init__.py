"""The commands, for the workflow's rules and for people, and the worker that runs them."""

# Environment variable: the path of the worker's socket. It stands here because `train` needs it: in
# worker.py it would put all that the worker imports into the hash of that command's code.
WORKER = "HUMANLINE_WORKER"
