"""What CLIENTS.md shows must stand in the programs that are run."""

import pathlib
import re

import clients

HERE = pathlib.Path(__file__).resolve().parent
BLOCK = re.compile(r"<!-- (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def plain(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def untrue():
    """The lines of the page that stand in no program; a page without blocks is one of them."""
    page = (HERE / "CLIENTS.md").read_text()
    blocks = BLOCK.findall(page)
    complaints = [] if len(blocks) == page.count("```") // 2 else ["a block does not say which program it stands in"]
    for source, block in blocks:
        if source == "policy":
            # The row of the client library is run with it.
            missing = []
        elif source == "environment":
            given = [*clients.environment(""), *clients.TRUST.values()]
            missing = [line for line in plain(block) if line.removeprefix("export ").partition("=")[0] not in given]
        else:
            there = plain((HERE / source).read_text())
            missing = [line for line in plain(block) if line not in there]
        complaints += [f"{source}: {line}" for line in missing]
    return complaints or ([] if blocks else ["CLIENTS.md shows no program"])
