"""The framework operators of bytesandbrains and its bundled protocols."""
