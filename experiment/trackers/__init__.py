"""Programs that show experiments as they run: one file each, found by name."""
