"""What Slicer's translators find: texts in `_()` are whole constants, and what the panel shows passes through it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = [REPOSITORY / name for name in ("IntraopRecon", "ShapeCompletion")]
SOURCES = [path for module in MODULES for path in (module / f"{module.name}.py", *sorted(module.rglob("host/*.py")))]
SHOWN = {"text", "toolTip", "title"}


def problems(source: str) -> list[str]:
    """Return what lupdate would not find, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            if not (len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)):
                found.append(f"{node.lineno}: _() takes one constant text")
        elif isinstance(node, ast.Assign):
            shown = [target for target in node.targets if isinstance(target, ast.Attribute) and target.attr in SHOWN]
            parts = [node.value, *([node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [])]
            bare = [part for part in parts if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and part.value)]
            if shown and bare:
                found.append(f"{node.lineno}: {shown[0].attr} is not translated")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_texts_are_translated(path: Path):
    assert problems(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("_(f'{n} slices')", "one constant text"),
        ("_('a', 'b')", "one constant text"),
        ("label.text = 'Ready'", "text is not translated"),
        ("label.toolTip = 'a' if b else _('c')", "toolTip is not translated"),
    ],
)
def test_the_lint_finds(source: str, says: str):
    assert says in problems(source)[0]
    assert problems("label.text = _('Ready')\nlabel.text = ''\nlabel.text = _('{n}').format(n=1)") == []
