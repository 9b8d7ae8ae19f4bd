"""mkdocs: the page of commands shows what `--help` prints, and roles of docstrings become plain names."""

import os
import re
import subprocess
import sys


def on_page_markdown(markdown: str, page, **_):
    """Replace ``{{ help VERB }}`` by the help of that command."""

    def told(match: re.Match) -> str:
        command = [sys.executable, "-W", "ignore", "-m", f"lit_faces.{match[1]}", "--help"]
        environment = {**os.environ, "COLUMNS": "110"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return f"```\n{done.stdout.strip()}\n```"

    return re.sub(r"\{\{ help (\w+) \}\}", told, markdown)


def on_page_content(html: str, **_):
    """``:class:`X` `` is Sphinx's way of writing; here the name is enough."""
    return re.sub(r":(?:mod|class|func|meth|data|attr):(?=<code>)", "", html)
