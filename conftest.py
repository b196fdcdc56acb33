"""Options of the test suite that no single package owns."""

import os

import pytest
from hypothesis import settings

# What continuous integration finds must not depend on luck; elsewhere every run looks further.
settings.register_profile("ci", derandomize=True, deadline=None)
if "CI" in os.environ:
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-public-api",
        action="store_true",
        help="write tests/public_api.txt anew from the names that are public now",
    )
