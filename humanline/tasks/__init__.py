"""The tasks, one file each; `humanline.study.tasks` defines `Task` and finds tasks by name."""
