"""Directed graphs as values: they travel between Nodes as they lie in memory."""
