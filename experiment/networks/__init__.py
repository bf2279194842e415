"""Hold the networks, one family a file; each registers itself by the name of its function."""
