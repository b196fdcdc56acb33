"""Options of the test suite that no single package owns."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-public-api",
        action="store_true",
        help="write tests/public_api.txt anew from the names that are public now",
    )
