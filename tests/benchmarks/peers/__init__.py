"""Our simulator beside those of others, on the same task; `run_peers.py` runs the comparison."""
