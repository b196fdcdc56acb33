"""A module whose import fails."""

raise AttributeError("1 is not 2")
