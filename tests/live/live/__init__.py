"""Resuming for real, in live runtimes. See ../README.md."""
