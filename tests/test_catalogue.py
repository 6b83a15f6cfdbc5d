"""The catalogue of readers: what `headstart corpora` and docs/corpora.md say is true, and costs no time."""

import subprocess
import sys

import pytest
import yaml
from pydantic import TypeAdapter

from headstart.cli import main
from headstart.corpora.catalogue import own_keys
from headstart.corpora.registry import READERS, Corpus


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_shown_with_its_layout_keys_and_an_example_that_is_valid(name, capsys):
    about = READERS[name].description
    assert main(["corpora", name]) == 0
    shown = capsys.readouterr().out
    assert about.title in shown and about.tree.splitlines()[0] in shown
    assert all(f"  {key} (" in shown for key in own_keys(READERS[name].section))
    example = yaml.safe_load(f"{{reader: {name}, {about.example}}}")
    assert isinstance(TypeAdapter(Corpus).validate_python(example), READERS[name].section)


def test_all_readers_are_listed_with_what_they_expect_on_disk(capsys):
    assert main(["corpora"]) == 0
    shown = capsys.readouterr().out
    for name, reader in READERS.items():
        layout = "\n".join(f"    {line}".rstrip() for line in reader.description.tree.splitlines())
        assert f"{name}: {reader.description.title}\n{layout}" in shown


def test_a_reader_that_does_not_exist_is_named_with_what_is_near(capsys):
    assert main(["corpora", "textgird"]) == 2
    assert "there is no reader 'textgird' (nearest valid: 'textgrid')" in capsys.readouterr().err


def test_knowing_the_readers_imports_no_library_that_reads_corpora():
    heavy = ("torch", "lhotse", "pympi", "praatio", "webvtt", "srt", "pyarrow", "conllu", "pylangacq", "soundfile")
    code = f"import sys, headstart.corpora.registry; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
