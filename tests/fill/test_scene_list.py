"""Paths, patterns and lists become scenes; names of outputs come from names of inputs."""

from pathlib import Path

import pytest

from lacunar.errors import LacunarError
from lacunar.fill.scene_list import listed_paths, names_several, outputs_in


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A working folder with three products and a hidden one."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/b", "in/a", "in/.c"):
        Path(name).mkdir(parents=True)
    Path("in/d.tar").write_text("")
    return Path()


@pytest.mark.usefixtures("archive")
def test_patterns_and_lists_name_every_path_once():
    Path("list.txt").write_text("# all\n\nin/b\nin/*.tar\n  none/here  \n")
    assert listed_paths(["in/*"]) == [Path("in/a"), Path("in/b"), Path("in/d.tar")]
    assert listed_paths(["in/b", "./in/b", "in/[ab]"]) == [Path("in/b"), Path("in/a")]
    assert listed_paths(["@list.txt"]) == [Path("in/b"), Path("in/d.tar"), Path("none/here")]
    absolute = Path.cwd() / "in"
    assert listed_paths([f"{absolute}/*"]) == [absolute / name for name in ("a", "b", "d.tar")]
    assert [names_several(name) for name in ("in/*", "@list.txt", "in/a", "none")] == [True, True, False, False]


@pytest.mark.usefixtures("archive")
def test_a_path_with_the_signs_of_a_pattern_is_a_path_where_it_exists():
    Path("in/e[1]").mkdir()
    assert listed_paths(["in/e[1]"]) == [Path("in/e[1]")]
    assert not names_several("in/e[1]")


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("argument", "content", "message"),
    [
        ("x/*.tar", None, r"nothing matches 'x/\*\.tar': wanted a pattern of files or folders that exist"),
        ("@list.txt", None, r"list list\.txt cannot be read .*No such file.*: wanted a text file, one path a line"),
        ("@list.txt", b"\n# in/a\n", r"list list\.txt names nothing: wanted one path a line"),
        ("@list.txt", b"\xff\xfe", r"list list\.txt cannot be read"),
        ("@list.txt", b"in/a\ny*\n", r"nothing matches 'y\*'"),
    ],
)
def test_what_names_nothing_is_refused(argument, content, message):
    if content is not None:
        Path("list.txt").write_bytes(content)
    with pytest.raises(LacunarError, match=message):
        listed_paths([argument])


@pytest.mark.usefixtures("archive")
def test_outputs_are_named_after_inputs():
    Path("in/LC08.v1").mkdir()
    paths = [Path("in/LC08.v1"), Path("x/LC09.tar.gz"), Path("x/P.TAR"), Path("x/a.b.tif"), Path("in/a/.")]
    names = ["LC08.v1", "LC09", "P", "a.b", "a"]
    assert outputs_in(Path("out"), paths, "lst") == [Path(f"out/{name}_lst.tif") for name in names]
    with pytest.raises(LacunarError, match=r"x/a\.tar and in/a would both become .*a_lst\.tif: wanted inputs of"):
        outputs_in(Path("out"), [Path("x/a.tar"), Path("in/a")], "lst")
