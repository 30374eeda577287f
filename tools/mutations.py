"""Single-point mutants of a Python source: one small change each, as a bug would be.

Comparisons, arithmetic, constants, strings, conditions turned round, lost returns, deleted
statements, swapped and dropped arguments, dropped keywords. Annotations and docstrings stay.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
ARITHMETIC = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.LShift: ">>",
    ast.RShift: "<<",
    ast.BitAnd: "|",
    ast.BitXor: "&",
}
ANNOTATIONS = ("annotation", "returns")  # fields of the tree that hold types


@dataclass(frozen=True)
class Mutant:
    """One change: where, of which kind, and the whole source with it."""

    line: int
    last: int  # line of the changed text's end
    place: str  # function or class, with what it lies in
    kind: str
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        """The change in one line."""
        return f"{' '.join(self.before.split())} -> {' '.join(self.after.split())}"


class Source:
    """A source with all changes that could be made to it; ``mutant`` makes one of them."""

    def __init__(self, text: str):
        self.text = text
        tree = ast.parse(text)
        self.meaning = ast.dump(tree)
        self.changes: list[tuple[ast.expr | ast.stmt, str, str, str]] = []
        tests = {id(n.test) for n in ast.walk(tree) if isinstance(n, ast.If | ast.While)}
        for node, place in _nodes(tree, ()):
            changes = list(_changes(node))
            if id(node) in tests:
                changes.append(("condition", f"(not {_inner(node)})"))
            self.changes += [(node, ".".join(place), kind, after) for kind, after in changes]

    def mutant(self, number: int) -> Mutant | None:
        """The mutant of a change; None where it does not compile or means the same."""
        node, place, kind, after = self.changes[number]
        changed = _replaced(self.text, node, after)
        try:
            other = ast.dump(ast.parse(changed))
        except SyntaxError:
            return None
        if other == self.meaning:
            return None
        before = ast.get_source_segment(self.text, node)
        return Mutant(node.lineno, node.end_lineno, place, kind, before, after, changed)


def mutants(text: str) -> list[Mutant]:
    """All mutants of a source, in its order; each compiles and differs from it in its meaning."""
    source = Source(text)
    every = map(source.mutant, range(len(source.changes)))
    return list({mutant.source: mutant for mutant in reversed([*every]) if mutant}.values())[::-1]


def _nodes(node: ast.AST, place: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    """Every node that may change, with the names of the functions and classes that it lies in."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        place = (*place, node.name)
    if isinstance(node, ast.expr | ast.stmt):
        yield node, place
    for field, value in ast.iter_fields(node):
        if field in ANNOTATIONS or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_docstring(child):
                yield from _nodes(child, place)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Kind and new text of each change of one node."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            text = f"{ast.unparse(left)} {COMPARISONS[type(op)]} {ast.unparse(right)}"
            yield "comparison", f"({text})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield "arithmetic", f"({_inner(left)} {ARITHMETIC[type(op)]} {_inner(right)})"
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield "sign", _inner(operand)
        case ast.BoolOp(op=op, values=values):
            word = " or " if isinstance(op, ast.And) else " and "
            yield "condition", f"({word.join(map(_inner, values))})"
        case ast.Constant(value=value):
            yield from _constants(value)
        case ast.Return(value=value) if value is not None:
            yield "return", "return None"
        case ast.Raise() | ast.AugAssign() | ast.Continue() | ast.Break():
            yield "statement", "pass"
        case ast.Expr(value=ast.Call()):
            yield "statement", "pass"
        case ast.Call():
            yield from _calls(node)
        case ast.IfExp(test=test, body=body, orelse=other):
            yield "condition", f"({_inner(other)} if {_inner(test)} else {_inner(body)})"


def _inner(node: ast.AST) -> str:
    """A node's text, in brackets where it has parts."""
    text = ast.unparse(node)
    return text if isinstance(node, ast.Name | ast.Constant | ast.Call) else f"({text})"


def _constants(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "constant", repr(not value)
    elif isinstance(value, int):
        yield "constant", repr(value + 1)
    elif isinstance(value, float):
        yield "constant", repr(value * 2 if value else 1.0)
    elif value == "utf-8":  # Python reads "utf-8_" as the same
        return
    elif isinstance(value, str) and re.fullmatch(r"[\w.+-]*", value):  # a mode, not a message
        yield "string", repr(value + "_")


def _calls(node: ast.Call) -> Iterator[tuple[str, str]]:
    """The call with two arguments swapped, without the last of several, without each keyword.

    A type check that gets too little or the wrong way round always fails: no mutant. The smaller
    and the larger of several have no order: not swapped.
    """
    arguments = [ast.unparse(argument) for argument in node.args]
    keywords = [ast.unparse(keyword) for keyword in node.keywords]
    name = ast.unparse(node.func)
    ordered = name not in ("min", "max") or bool(keywords)
    if len(arguments) > 1 and name != "isinstance":
        swapped = [arguments[1], arguments[0], *arguments[2:]]
        if ordered:
            yield "swapped", f"{name}({', '.join([*swapped, *keywords])})"
        yield "dropped", f"{name}({', '.join([*arguments[:-1], *keywords])})"
    for i in range(len(keywords)):
        rest = [*keywords[:i], *keywords[i + 1 :]]
        yield "keyword", f"{name}({', '.join([*arguments, *rest])})"


def _replaced(source: str, node: ast.AST, text: str) -> str:
    """The source with the node's text replaced; the tree counts its columns in bytes."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    whole = b"".join(lines)
    return (whole[:start] + text.encode() + whole[end:]).decode()
