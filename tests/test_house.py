"""The house in order: commands are short, and options travel as types."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_faces.cli import VERBS

ROOT = Path(__file__).resolve().parents[1] / "lit_faces"
LONGEST_COMMAND = 160  # lines


def functions_that_take_a_namespace(source: str) -> Iterator[str]:
    """Names of functions with a parameter that is an ``argparse.Namespace``, or ``args`` of any type."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            forwards = "kwargs" in [one.arg for one in every]
            for one in every:
                kind = ast.unparse(one.annotation) if one.annotation else ""
                if "Namespace" in kind or (one.arg == "args" and kind in ("", "Any") and not forwards):
                    yield node.name


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_takes_a_namespace(path: Path) -> None:
    found = list(functions_that_take_a_namespace(path.read_text(encoding="utf-8")))
    assert [name for name in found if name != "main"] == []


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_command_parses_calls_prints(verb: str) -> None:
    lines = (ROOT / f"{verb}.py").read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_COMMAND, f"{verb}.py has {lines} lines: what it does belongs into a room"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(args: argparse.Namespace): ...", ["f"]),
        ("async def f(*, o: Namespace | None): ...", ["f"]),
        ("class A:\n    def g(self, args: Any): ...", ["g"]),
        ("def f(*args: Any): ...", []),
        ("def f(self, args: Any, kwargs: Any): ...", []),
        ("def f() -> argparse.Namespace: ...", []),
    ],
)
def test_the_rule_sees_every_spelling(source: str, expected: list[str]) -> None:
    assert list(functions_that_take_a_namespace(source)) == expected
