"""Planning: what jobs cost in time, memory and disk, from the configuration alone."""
