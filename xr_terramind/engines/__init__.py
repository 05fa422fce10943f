"""The other ways to run the same encoder."""
