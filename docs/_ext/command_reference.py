"""A Sphinx directive that writes the reference of the command line from the command itself.

``cascade-bayes-commands`` takes nothing: `command_text` describes each command of `cascade_bayes.cli.app`
with its usage, its arguments and its options, as the command's own parser has them.
"""

from __future__ import annotations

from command_text import markdown
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class CommandReference(SphinxDirective):
    """The reference of every command."""

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the reference."""
        return self.parse_text_to_nodes("\n".join(markdown()), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("cascade-bayes-commands", CommandReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
