"""The networks, one family per file; each is registered under the name of its function."""
