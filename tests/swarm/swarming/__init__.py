"""What the swarm is made of: programs whose parts keep accounts, watchers, and what must hold."""
