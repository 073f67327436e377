"""What both rooms hold a prompt template to: the dialect of Jinja in which chat models come."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

__all__ = ["DIALECT", "GenerationTag"]


class GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}`: what training looks at. Here it writes what stands between."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


DIALECT: dict[str, Any] = {
    "trim_blocks": True,
    "lstrip_blocks": True,
    "extensions": ["jinja2.ext.loopcontrols", GenerationTag],
}
"""Options of the Jinja environment that reads a template."""
