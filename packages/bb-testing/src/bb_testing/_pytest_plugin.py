"""Fixtures that every plugin's tests get by installing bb-testing."""
