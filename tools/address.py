"""The repository's address, in one place: ``repository:`` in _config.yml. ``make address REPO=owner/name`` writes it there and
into what repeats it: the notebooks' install cells (identical in all) and the README. Until then no page links to Colab, and
the install cell tells how to install from a checkout: code is never fetched from an owner who was made up.
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
MARK = re.compile(
    r"find_spec\(.vggbook.\)|install"
)  # the first code cell is the install cell where it has this

INSTALL = """\
# Colab and other bare kernels: install the package once. Where it is installed, this cell does nothing.
import importlib.util

if importlib.util.find_spec("vggbook") is None:
    {action}"""
FROM_REPOSITORY = '%pip install --quiet "vggbook @ git+https://github.com/{repo}"'
FROM_CHECKOUT = 'raise ModuleNotFoundError("vggbook is not installed: in a checkout of this book, run `pip install .`")'


def install_cell(repo: str | None) -> str:
    """The source of every notebook's first code cell."""
    return INSTALL.format(action=FROM_REPOSITORY.format(repo=repo) if repo else FROM_CHECKOUT)


def address(root: Path = ROOT) -> str | None:
    """``owner/name`` as _config.yml has it; None while it is not set."""
    url = (yaml.safe_load((root / "_config.yml").read_text()).get("repository") or {}).get("url")
    return url.removeprefix("https://github.com/") if url else None


def pages(repo: str) -> str:
    """Where GitHub publishes the repository's pages."""
    owner, name = repo.split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def config_block(repo: str | None) -> str:
    if not repo:
        return "# repository: not set yet (make address REPO=owner/name); no page links to Colab until then\n# end of repository\n"
    return (
        f"# repository: written by make address\nrepository:\n  url: https://github.com/{repo}\n  branch: main\n"
        f'  path_to_book: ""\nlaunch_buttons:\n  colab_url: https://colab.research.google.com\n'
        "# end of repository\n"
    )


def readme_block(repo: str | None) -> str:
    text = "Clone this repository, then:"
    if repo:
        text = (
            f"Read it at <{pages(repo)}>, or build it:\n\n"
            f"```sh\ngit clone https://github.com/{repo} && cd {repo.split('/')[1]}\n```"
        )
    return f"<!-- address -->\n{text}\n<!-- end of address -->"


def disagreements(root: Path = ROOT) -> list[str]:
    """Where a file does not say what _config.yml says."""
    repo, wrong = address(root), []
    if config_block(repo) not in (root / "_config.yml").read_text():
        wrong.append("_config.yml: its repository block is not what make address writes")
    if readme_block(repo) not in (root / "README.md").read_text():
        wrong.append("README.md: its address block is not what make address writes")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        if not cells or cells[0].source != install_cell(repo):
            wrong.append(f"{path.name}: its first code cell is not the install cell")
    return wrong


def put_install_cell(nb, repo: str | None) -> bool:
    """Make the notebook's install cell the current one; True where that changed it."""
    first = next((c for c in nb.cells if c.cell_type == "code"), None)
    if first is None or not MARK.search(first.source) or first.source == install_cell(repo):
        return False
    first.source = install_cell(repo)
    return True


def write(repo: str | None, root: Path = ROOT) -> list[str]:
    """Write the address everywhere; returns the files that changed."""
    if repo is not None and not NAME.fullmatch(repo):
        raise ValueError(
            f"REPO must be a GitHub owner/name such as REPO=somebody/vggbook, got {repo!r}"
        )
    changed = []
    for name, pattern, block in (
        ("_config.yml", CONFIG_BLOCK, config_block(repo)),
        ("README.md", README_BLOCK, readme_block(repo)),
    ):
        path = root / name
        text = path.read_text()
        if not pattern.search(text):
            raise ValueError(
                f"{name} has lost the block that holds the address ({pattern.pattern.split('.*?')[0]})"
            )
        new = pattern.sub(block.replace("\\", r"\\"), text)
        if new != text:
            path.write_text(new)
            changed.append(name)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, 4)
        if put_install_cell(nb, repo):
            nbformat.write(nb, path)
            changed.append(f"notebooks/{path.name}")
    return changed


def main(argv: list[str]) -> int:
    repo = argv[0] if argv else ""
    if not repo:
        print(
            f"address: {address() or 'not set'}. To set it: make address REPO=owner/name",
            *disagreements(),
            sep="\n  ",
        )
        return bool(disagreements())
    try:
        print("address:", ", ".join(write(None if repo == "none" else repo)) or "nothing to change")
    except ValueError as e:
        print(f"address: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
