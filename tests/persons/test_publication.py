"""Files that belong together appear together, whoever is killed at whatever point."""

import os

import pytest

from lit_faces.persons import publication
from lit_faces.persons.publication import MADE_OF, made_of, publishing, recover


def publish(out, digest, content, overwrite=False):
    recover(out)
    with publishing(out, digest, overwrite) as work:
        for name, text in content.items():
            (work / name).write_text(text)


def files(out):
    return {path.name: path.read_text() for path in out.iterdir() if path.name != MADE_OF}


def test_what_was_asked_is_known(tmp_path):
    assert made_of(tmp_path) is None
    publish(tmp_path, "a", {"one": "1", "two": "2"})
    assert made_of(tmp_path) == "a" and files(tmp_path) == {"one": "1", "two": "2"}


def test_another_publication_needs_to_be_asked_for_and_leaves_strangers_alone(tmp_path):
    publish(tmp_path, "a", {"one": "1", "two": "2"})
    (tmp_path / "mine.txt").write_text("!")
    with pytest.raises(ValueError, match="was made of other faces"):
        publish(tmp_path, "b", {"one": "3"})
    assert made_of(tmp_path) == "a"
    publish(tmp_path, "b", {"one": "3"}, overwrite=True)
    assert made_of(tmp_path) == "b" and files(tmp_path) == {"one": "3", "mine.txt": "!"}


def test_an_error_while_writing_changes_nothing(tmp_path):
    publish(tmp_path, "a", {"one": "1"})

    def fails():
        with publishing(tmp_path, "b", overwrite=True) as work:
            (work / "one").write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert made_of(tmp_path) == "a" and files(tmp_path) == {"one": "1"}


@pytest.mark.parametrize("moves", range(4))
def test_whoever_is_killed_while_moving_has_the_rest_moved(tmp_path, monkeypatch, moves):
    publish(tmp_path, "a", {"one": "1", "two": "2"})
    real, done = os.replace, []

    class Killed(BaseException):
        pass

    def replace(one, other):
        if publication._WORK in str(one) and publication._WORK not in str(other):
            if len(done) == moves:
                raise Killed
            done.append(one)
        real(one, other)

    monkeypatch.setattr(publication.os, "replace", replace)
    monkeypatch.setattr(publication.shutil, "rmtree", lambda *_, **__: None)  # a killed process tidies nothing up
    if moves < 3:  # two files, and what they are made of
        with pytest.raises(Killed):
            publish(tmp_path, "b", {"one": "3", "two": "4"}, overwrite=True)
    else:
        publish(tmp_path, "b", {"one": "3", "two": "4"}, overwrite=True)
    monkeypatch.undo()
    recover(tmp_path)
    assert made_of(tmp_path) == "b" and files(tmp_path) == {"one": "3", "two": "4"}
