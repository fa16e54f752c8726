"""The README and the pages beside it: what they show runs, parses and stands in a file."""

import doctest
import importlib
import re
import shlex
import tomllib

import pytest
import tyro
from pages import GUIDES, README, ROOT, blocks

from jaxnas import registry
from jaxnas.cli import main

PAGES = (README, *GUIDES)
EXAMPLES = [
    pytest.param(source, id=f"{page.name}-{i}")
    for page in PAGES
    for i, source in enumerate(blocks(page, "python"))
    if page.name != "extending.md" or source.startswith("# three")  # test_plugins.py
]
# What a reader types, with 1 for the placeholders I and N.
COMMANDS = {
    re.sub(r" (I|N)(?= )", " 1", found[1]): page.name
    for page in PAGES
    for block in blocks(page, "(?:sh|bash)")
    for line in block.replace("\\\n", "").splitlines()
    if (found := re.search(r"(?:^|srun |=\w+ )(jaxnas .*)", line))
}
NUMBERS = tomllib.loads((ROOT / "docs" / "numbers.toml").read_text())
COUNTED = [README, *(ROOT / "docs" / name for name in NUMBERS["pages"])]
NUMERAL = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
KINDS = {
    "spaces": "space",
    "oracles": "oracle",
    "environments": "env",
    "controllers": "controller",
    "algorithms": "algorithm",
}


@pytest.mark.parametrize("source", EXAMPLES)
def test_an_example_runs_as_printed(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "example.py", "exec"), {"__name__": "example"})


DOCTESTS = [
    file.relative_to(ROOT).with_suffix("")
    for file in sorted((ROOT / "jaxnas").rglob("*.py"))
    if ">>>" in file.read_text()
]


@pytest.mark.parametrize("path", DOCTESTS, ids=str)
def test_the_examples_of_docstrings_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(path.parts).removesuffix(".__init__"))
    done = doctest.testmod(module, verbose=False)
    assert done.attempted
    assert not done.failed


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line, monkeypatch, tmp_path):
    for run in re.findall(r"--resume (\S+)|(\S+)/config\.toml", line):  # of a search
        folder = tmp_path / "".join(run)
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text('command = "search"\n')
        monkeypatch.chdir(tmp_path)
    parse = tyro.extras.subcommand_cli_from_dict

    def only_parse(*args, **kwargs):
        command = parse(*args, **kwargs)
        monkeypatch.setattr(type(command), "run", lambda command: 0)
        return command

    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", only_parse)
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(line, comments=True)[1:])
    assert not stop.value.code, f"{COMMANDS[line]}: {line}"


def test_a_wrong_command_does_not_parse():
    with pytest.raises(SystemExit) as stop:
        main(["search", "--no-such-option"])
    assert stop.value.code == 2


def test_the_table_of_components_is_the_registry():
    page = README.read_text()
    for title, kind in KINDS.items():
        listed = ", ".join(f"`{name}`" for name in registry.TABLES[kind])
        assert f"| {title} | {listed} |" in page, f"README.md needs: | {title} | {listed} |"


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def numerals(text):
    """Every number of a text and how many decimals it is printed with."""
    found = [n.rstrip(",").replace(",", "") for n in NUMERAL.findall(text)]
    return [(float(n), len(n.partition(".")[2])) for n in found]


def unfounded(text, stored, plain=()):
    """The numbers of a text that no number of the stored strings rounds to."""
    known = [value for part in stored for value, _ in numerals(part)]
    free = [value for part in plain for value, _ in numerals(part)]
    return [
        value
        for value, decimals in numerals(text)
        if value not in free
        and not any(abs(abs(k) - abs(value)) <= 0.5001 * 10.0**-decimals for k in known)
    ]


@pytest.mark.parametrize("entry", NUMBERS["number"], ids=lambda e: e["text"][:40])
def test_a_number_stands_in_its_file(entry):
    assert entry["text"] in (ROOT / entry["page"]).read_text()
    file = (ROOT / entry["file"]).read_text()
    for part in entry["stored"]:
        assert part in file, f"{entry['file']} does not hold {part}"
    assert not unfounded(entry["text"], entry["stored"], entry.get("plain", ()))


@pytest.mark.parametrize("entry", NUMBERS["table"], ids=lambda e: e["file"])
def test_a_table_is_the_stored_one(entry):
    table = (ROOT / entry["file"]).read_text()
    assert table.startswith("|")
    assert table in (ROOT / entry["page"]).read_text()


@pytest.mark.parametrize("entry", NUMBERS["number"] + NUMBERS["table"], ids=str)
def test_the_command_behind_a_number_exists(entry):
    words = entry["command"].split()
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
    elif words[0] == "python":
        assert (ROOT / words[1]).exists()
    else:
        assert words[0] == "jaxnas"


@pytest.mark.parametrize("page", COUNTED, ids=lambda page: page.name)
def test_every_number_has_a_source(page):
    """Nothing is left of a page's numerals but code, links and what nobody measured."""
    name = page.relative_to(ROOT).as_posix()
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for entry in NUMBERS["table"]:
        if entry["page"] == name:
            text = text.replace((ROOT / entry["file"]).read_text(), "")
    for entry in NUMBERS["number"]:
        if entry["page"] == name:
            text = text.replace(entry["text"], "")
    text = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "", text)
    for phrase in NUMBERS["plain"]:
        text = text.replace(phrase, "")
    left = [line for line in text.splitlines() if NUMERAL.search(line)]
    assert not left, f"{name} has numbers without an entry in docs/numbers.toml: {left}"


def test_a_wrong_number_is_seen():
    assert not unfounded("0.73 (0.70 to 77)", ["| 0.731 [0.695, 77.2] |"])
    assert unfounded("0.74", ["0.731"]) == [0.74]
    assert unfounded("120 times", ["12"]) == [120.0]
