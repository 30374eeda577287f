"""The repository's address, in one place: ``repository:`` in _config.yml. ``make address
REPO=owner/name`` writes it there and into what repeats it: the notebooks' install cells (identical
in all) and the README. Until then no page links to Colab, and the install cell tells how to install
from a checkout: code is never fetched from an owner who was made up.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import yaml

from tools import ROOT

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
CONFIG_BLOCK = re.compile(r"# repository: .*?# end of repository\n", re.S)
README_BLOCK = re.compile(r"<!-- address -->.*?<!-- end of address -->", re.S)
# The first code cell is the install cell where it has this.
MARK = re.compile(r"find_spec\(.vggbook.\)|install")

INSTALL = """\
# Colab and other bare kernels: install the package once.
# Where it is installed, this cell does nothing.
import importlib.util

if importlib.util.find_spec("vggbook") is None:
    {action}"""
FROM_REPOSITORY = """\
source = "git+https://github.com/{repo}{ref}"
    %pip install --quiet "vggbook @ {{source}}\""""
FROM_CHECKOUT = """\
raise ModuleNotFoundError(
        "vggbook is not installed: in a checkout of this book, run `pip install .`"
    )"""
TITLE = re.compile(r"# @title .*\n")  # what tools/notebook.py puts first in a folded cell


def untitled(source: str) -> str:
    """A cell's source without the line that names its fold in Colab."""
    return TITLE.sub("", source, count=1) if TITLE.match(source) else source


def install_cell(repo: str | None, branch: str = "main") -> str:
    """The source of every notebook's first code cell."""
    if not repo:
        return INSTALL.format(action=FROM_CHECKOUT)
    ref = "" if branch == "main" else f"@{branch}"
    return INSTALL.format(action=FROM_REPOSITORY.format(repo=repo, ref=ref))


def repository(root: Path = ROOT) -> dict[str, str]:
    """The block ``repository`` of _config.yml; empty while no address is set."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return config.get("repository") or {}


def address(root: Path = ROOT) -> str | None:
    """``owner/name`` as _config.yml has it; None while it is not set."""
    url = repository(root).get("url")
    return url.removeprefix("https://github.com/") if url else None


def branch(root: Path = ROOT) -> str:
    """The branch that Colab opens: main, or the one that publishing writes."""
    return repository(root).get("branch", "main")


def pages(repo: str) -> str:
    """Where GitHub publishes the repository's pages."""
    owner, name = repo.split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def config_block(repo: str | None, branch: str = "main") -> str:
    if not repo:
        return (
            "# repository: not set yet (make address REPO=owner/name); "
            "no page links to Colab until then\n# end of repository\n"
        )
    return (
        "# repository: written by make address\n"
        f"repository:\n  url: https://github.com/{repo}\n  branch: {branch}\n"
        '  path_to_book: ""\nlaunch_buttons:\n  colab_url: https://colab.research.google.com\n'
        "# end of repository\n"
    )


def colab_badge(repo: str, branch: str) -> str:
    """The button that opens the first chapter in Colab."""
    badge = "https://colab.research.google.com/assets/colab-badge.svg"
    first = "notebooks/01_architecture.ipynb"
    link = f"https://colab.research.google.com/github/{repo}/blob/{branch}/{first}"
    return f"[![Open the first chapter in Colab]({badge})]({link})"


def readme_block(repo: str | None, branch: str = "main") -> str:
    text = "Clone this repository, then:"
    if repo:
        text = (
            f"{colab_badge(repo, branch)}\n\nRead it at <{pages(repo)}>, or build it:\n\n"
            f"```sh\ngit clone https://github.com/{repo} && cd {repo.split('/')[1]}\n```"
        )
    return f"<!-- address -->\n{text}\n<!-- end of address -->"


def disagreements(root: Path = ROOT) -> list[str]:
    """Where a file does not say what _config.yml says."""
    place, wrong = (address(root), branch(root)), []
    for name, block in (("_config.yml", config_block(*place)), ("README.md", readme_block(*place))):
        if block not in (root / name).read_text(encoding="utf-8"):
            what = "repository" if name == "_config.yml" else "address"
            wrong.append(f"{name}: its {what} block is not what make address writes")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        if not cells or untitled(cells[0].source) != install_cell(*place):
            wrong.append(f"{path.name}: its first code cell is not the install cell")
    return wrong


def put_install_cell(nb, repo: str | None, branch: str = "main") -> bool:
    """Make the notebook's install cell the current one; True where that changed it."""
    first = next((c for c in nb.cells if c.cell_type == "code"), None)
    wanted = install_cell(repo, branch)
    if first is None or not MARK.search(first.source) or untitled(first.source) == wanted:
        return False
    title = TITLE.match(first.source)
    first.source = (title[0] if title else "") + wanted
    return True


def write(repo: str | None, root: Path = ROOT, branch: str = "main") -> list[str]:
    """Write the address everywhere; returns the files that changed."""
    if repo is not None and not NAME.fullmatch(repo):
        raise ValueError(
            f"REPO={repo!r}: expected a GitHub owner/name such as REPO=somebody/vggbook"
        )
    changed = []
    for name, pattern, block in (
        ("_config.yml", CONFIG_BLOCK, config_block(repo, branch)),
        ("README.md", README_BLOCK, readme_block(repo, branch)),
    ):
        path = root / name
        text = path.read_text(encoding="utf-8")
        if not pattern.search(text):
            start = pattern.pattern.split(".*?")[0]
            raise ValueError(f"{name} has lost the block that holds the address ({start})")
        new = pattern.sub(block.replace("\\", r"\\"), text)
        if new != text:
            path.write_text(new, encoding="utf-8")
            changed.append(name)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, 4)
        if put_install_cell(nb, repo, branch):
            nbformat.write(nb, path)
            changed.append(f"notebooks/{path.name}")
    return changed


def main(argv: list[str]) -> int:
    """``python -m tools.address [owner/name|none [branch]]``: without a name, tell what is set and
    what disagrees.
    """
    if not argv or not argv[0]:
        found = disagreements()
        now = address() or "not set"
        print(f"address: {now}. To set it: make address REPO=owner/name", *found, sep="\n  ")
        return bool(found)
    repo = None if argv[0] == "none" else argv[0]
    try:
        changed = write(repo, branch=argv[1] if len(argv) > 1 else "main")
    except ValueError as error:
        print(f"address: {error}", file=sys.stderr)
        return 1
    print("address:", ", ".join(changed) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
