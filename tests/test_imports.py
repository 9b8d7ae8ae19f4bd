"""Which package may know which: read from the sources, so that an import inside a function counts too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for top in ("lit_faces", "data_modules") for path in (ROOT / top).rglob("*.py"))
#: Packages of lit_faces that know nothing of training: each may import itself and core, nothing else of ours.
PLAIN = ("core", "models", "losses", "metrics", "continual", "rendering")
#: The packages above them, from the bottom: each may import PLAIN, itself, and what is named.
ABOVE = {
    "fitting": set(),
    "photohead": {"fitting"},
    "tasks": set(),
    "reports": {"slurm"},
    "reading": {"tasks", "reports", "persons"},
    "callbacks": {"tasks", "reports", "slurm"},
    "runs": {"tasks", "reports", "callbacks", "slurm", "arguments", "command"},
    "persons": {"tasks", "reports", "fitting", "photohead"},
    "studies": {"tasks", "reports", "persons", "fitting", "photohead", "arguments"},
}
LIGHTNING = {"pytorch_lightning", "lightning", "lightning_fabric"}
HEAVY = {"dlib", "cv2", "albumentations", "wandb", "skimage", "matplotlib"}


def imports(tree: ast.AST, package: str, in_functions: bool = True) -> Iterator[str]:
    """Dotted names that a module of ``package`` imports; ``from a import b`` gives ``a.b``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)
        elif in_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, package, in_functions)


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def imported(path: Path, in_functions: bool = True) -> set[str]:
    return set(imports(ast.parse(path.read_text(encoding="utf-8")), package_of(path), in_functions))


def part(module: str) -> str:
    """The package of lit_faces that a dotted name lies in; a command's own name for ``lit_faces.fit``."""
    return module.split(".")[1] if "." in module else ""


def offences(found: set[str], package: str) -> list[str]:
    """What a module of ``package`` imports of ours and may not."""
    own = part(package)
    if package.startswith("data_modules"):
        allowed = {"core", "rendering"}
    elif own in PLAIN:
        allowed = {own, "core"}
    elif own in ABOVE:
        allowed = {*PLAIN, own, *ABOVE[own]}
    else:
        allowed = None  # commands
    wrong = [name for name in found if name.startswith("data_modules") and package.startswith("lit_faces")]
    ours = [name for name in found if name.startswith("lit_faces.") and name != "lit_faces.__version__"]
    return sorted(wrong + [name for name in ours if allowed is not None and part(name) not in allowed])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_knows_only_what_it_may(path: Path) -> None:
    package, found = package_of(path), imported(path)
    assert offences(found, package) == []
    if part(package) in {*PLAIN, "reports"}:
        assert {name.split(".")[0] for name in found} & LIGHTNING == set()
    at_the_top = {name.split(".")[0] for name in imported(path, in_functions=False)}
    assert at_the_top & HEAVY == set(), "heavy libraries are imported inside the functions that need them"


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("from lit_faces.models.blocks import Block", "lit_faces.losses", ["lit_faces.models.blocks.Block"]),
        ("from ..models import blocks", "lit_faces.losses", ["lit_faces.models.blocks"]),
        ("from .models import blocks", "lit_faces", []),
        ("def f():\n    import data_modules.base", "lit_faces.tasks", ["data_modules.base"]),
        ("from lit_faces import rendering", "lit_faces.models", ["lit_faces.rendering"]),
        ("from lit_faces.core.facs import AUS", "lit_faces.losses", []),
        ("import lit_faces.tasks.base", "data_modules", ["lit_faces.tasks.base"]),
        ("from lit_faces.rendering.renderer import FaceRenderer", "data_modules", []),
        ("import lit_faces.fit", "lit_faces.tasks", ["lit_faces.fit"]),
    ],
)
def test_the_rules_see_every_spelling(source: str, package: str, expected: list[str]) -> None:
    assert offences(set(imports(ast.parse(source), package)), package) == expected


def test_all_sources_are_looked_at() -> None:
    assert {package_of(path) for path in SOURCES} >= {"lit_faces", "lit_faces.core", "lit_faces.models", "data_modules"}
