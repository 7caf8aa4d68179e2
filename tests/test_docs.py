"""The pages' Python examples run as printed."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = [
    pytest.param(text, id=f"{page.name}-{i}")
    for page in (
        ROOT / "docs" / "twin.md",
        ROOT / "docs" / "datasets.md",
        ROOT / "docs" / "worlds.md",
        ROOT / "README.md",
    )
    for i, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("text", BLOCKS)
def test_example_runs(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
)
def test_every_linked_file_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def test_every_measure_is_explained_with_its_formula_source_and_figure() -> None:
    from wmbench import registry

    parts = re.split(r"^### ", (ROOT / "docs" / "measures.md").read_text(), flags=re.MULTILINE)[1:]
    sections = {part.split("\n")[0]: part for part in parts}
    assert sorted(sections) == registry.measures.names()
    for name, text in sections.items():
        assert "\n    " in text, f"{name}: no formula"
        assert "\nSource: " in text, name
        assert f"(images/measures/{name}.png)" in text, name
