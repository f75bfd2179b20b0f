"""What the pages tell people to type and to read exists: options, parameters, configuration files, links."""

import ast
import json
import re
from pathlib import Path

import pytest
from click import Group

import nimdrum
from nimdrum.base.parameters import read_parameters
from nimdrum.engines.config_file import read_engine_config
from nimdrum.tools.cli import main

ROOT = Path(__file__).resolve().parents[2]
ALL_PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
USERS = ("air-gap", "container", "http", "operation", "parameters", "rows", "troubleshooting", "upload")
PAGES = [
    ROOT / "README.md",
    *(ROOT / f"docs/{name}.md" for name in USERS),
    *sorted((ROOT / "docs/weights").glob("*.md")),
]
FOLDERS = ("nimdrum", "tests", "benchmarks", "examples", "requirements", "docs")
FILES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")} | {
    p.name for p in ROOT.glob("*.py")
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page: Path, tmp_path: Path) -> None:
    """Every command with its options, every parameter as a variable, every JSON block as an engine_config.json."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    assert isinstance(main, Group)
    for name, rest in re.findall(r"-m nimdrum ([a-z]+)([^\n`#|&]*)", text):
        assert name in main.commands, name
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest)) <= known, (name, rest)
    assert set(re.findall(r"MLOPS_RUNTIME_PARAM_(\w+)='", text)) <= set(read_parameters(ROOT))
    for payload in re.findall(r"MLOPS_RUNTIME_PARAM_\w+='([^']*)'", text):
        assert set(json.loads(payload)) == {"type", "payload"}
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        (tmp_path / "engine_config.json").write_text(block)
        assert read_engine_config(tmp_path).nim_env(2)


def anchors(page: Path) -> set[str]:
    """The headings of a page as the ends of links, in GitHub's way."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Every link inside the project leads to a file, and to a heading of it where it names one."""
    text = page.read_text(encoding="utf-8")
    for path, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)):
        if "://" not in path:
            target = page.parent / path if path else page
            assert target.exists(), path
            assert not anchor or anchor in anchors(target), f"{path}#{anchor}"
    for named in re.findall(r"`(docs/[\w/.-]+)`", text):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_places(page: Path) -> None:
    """Every file and folder of the project that a page names is there, every module too: what moves takes its name along."""
    text = page.read_text(encoding="utf-8")
    for named in re.findall(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*[\w/]", text):
        assert (ROOT / named).exists() or (page.parent / named).exists(), named
    for named in re.findall(r"(?<![\w/.-])((?:[\w-]+/)+[\w-]+\.py)\b", text):
        assert (ROOT / named).exists(), f"{named}: write it from the top of the project"
    for named in re.findall(r"`([\w-]+\.py)`", text):
        assert named in FILES, named
    for named in re.findall(r"\bnimdrum\.([a-z]\w*)", text):
        there = (ROOT / "nimdrum" / named).is_dir() or (ROOT / "nimdrum" / f"{named}.py").is_file()
        assert there or named in nimdrum.__all__, f"nimdrum.{named}"


def words_of(value: ast.AST | None) -> set[str]:
    """The texts that an expression may give: one, or those between which it chooses."""
    if isinstance(value, ast.IfExp):
        return words_of(value.body) | words_of(value.orelse)
    return {value.value} if isinstance(value, ast.Constant) and isinstance(value.value, str) else set()


def test_every_kind_of_row_error_is_explained() -> None:
    """The table in docs/rows.md has each that the code gives, and no other. Those two stand beside an answer."""
    given = {"empty_answer", "declined"}
    for file in (ROOT / "nimdrum/scoring").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found: ast.AST | None = None
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RowFailure":
                found = node.args[0]
            elif (
                isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "kind"
            ):
                found = node.value
            given |= words_of(found)
    page = (ROOT / "docs/rows.md").read_text(encoding="utf-8")
    table = page.partition("The kinds of row error:")[2].partition("\n\nWhen no row")[0]
    explained = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert not given - explained, f"The table of row errors does not explain {given - explained}."
    assert not explained - given, f"The table of row errors explains {explained - given}, which no code gives."
