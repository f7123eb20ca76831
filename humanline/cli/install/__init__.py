"""What depends on how humanline was installed: a workflow's folder, and missing packages."""
