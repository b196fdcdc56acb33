"""Decentralized and federated machine learning: the facade and the `bb` command."""
