"""The tasks, one file each; `humanline.study.tasks` says what a task is, and finds it by name."""
