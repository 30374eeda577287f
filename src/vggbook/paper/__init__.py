"""The paper's facts as data: its claims, its tables, and the nets before VGG.

``claims.yaml`` holds 174 checkable statements with kind, section and value
(:mod:`vggbook.book.claims` checks them); ``tables.yaml`` Tables 1 to 12; ``cnn_fms.yaml`` AlexNet
and VGG-F, M, S.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


class PaperDataError(ValueError):
    """A file of the paper's facts cannot be read; the message says which line."""


def _loader() -> type:
    """YAML's safe loader, in C where there is one, that also refuses a key given twice."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {key.value!r} appears twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def read(path: str | os.PathLike) -> tuple[Any, Any]:
    """A YAML file's data and its root node, which knows the lines; a damaged file raises
    PaperDataError.
    """
    import yaml

    path = Path(path)
    try:
        loader = _loader()(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        return (loader.construct_document(node) if node else None), node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown line"
        raise PaperDataError(f"{path.name}, {where}: {error.problem or 'not valid YAML'}") from None
    except UnicodeDecodeError as error:
        line = 1 + path.read_bytes()[: error.start].count(b"\n")
        raise PaperDataError(f"{path.name}, line {line}: not UTF-8 text ({error.reason})") from None
    except yaml.YAMLError as error:
        raise PaperDataError(f"{path.name}: not a readable YAML text ({error})") from None


def load_yaml(path: str | os.PathLike) -> Any:
    """Read a YAML file; a damaged one raises PaperDataError with file, line and column."""
    return read(path)[0]


@cache
def tables() -> dict[str, Any]:
    """Tables 1 to 12 of the paper and exact counts derived from Table 1, as plain data
    (``tables()["table_3"]["rows"]``).
    """
    return load_yaml(FOLDER / "tables.yaml")


@cache
def nets_before_vgg() -> dict[str, Any]:
    """AlexNet and VGG-F, M, S layer by layer, with sources and known conflicts between them."""
    return load_yaml(FOLDER / "cnn_fms.yaml")
