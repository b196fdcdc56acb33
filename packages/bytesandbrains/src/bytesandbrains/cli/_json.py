"""What is printed for programs."""

from __future__ import annotations

import json
from typing import Any

import click

__all__ = ["print_json"]


def print_json(data: Any) -> None:
    """Print data as JSON: sorted, indented, UTF-8."""
    click.echo(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, default=str))
