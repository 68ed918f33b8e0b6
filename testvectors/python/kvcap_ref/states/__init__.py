"""State files from opened capsules (runtimes-v1 §8): neither model nor runtime is needed."""

from .restore import restore

__all__ = ["restore"]
