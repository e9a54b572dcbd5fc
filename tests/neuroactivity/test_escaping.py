"""Names from files are safe to show and to use, whatever they hold."""

import hashlib

import pytest

from neuroactivity.escaping import file_name, picture_text, printable


@pytest.mark.parametrize(
    ("show", "longest"), [(printable, 120), (picture_text, 60), (lambda t: printable(t, longest=9), 9)]
)
def test_a_long_text_is_cut_in_its_middle(show, longest):
    assert show("x" * longest) == "x" * longest
    half = longest // 2
    assert show("a" * half + "-" * longest + "b" * half) == "a" * half + "…" + "b" * half


def test_nothing_that_a_terminal_obeys_is_left():
    assert printable("fc\n\x1b[2J\u202e\x07é") == "fc\\n\\x1b[2J\\u202e\\x07é"


def test_pictures_hold_no_formulas_and_no_hidden_names():
    assert picture_text("a$b$_c") == r"a\$b\$_c"
    assert picture_text("__") == " __"
    assert picture_text("fc\n") == "fc\\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (".hidden", "_hidden"),
        ("a.b", None),
        ("a" * 80, None),
        ("a" * 81, "a" * 80),
        ("a/b\\c\0", "a_b_c_"),
        ("", ""),
        ("..", "_."),
        ("\ud800", "_"),
    ],
)
def test_names_of_files_are_no_paths_and_differ_where_texts_do(text, shown):
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    assert file_name(text) == (text if shown is None else f"{shown}-{digest[:8]}")


def test_a_shorter_name_can_be_asked_for():
    assert file_name("abcdef", longest=6) == "abcdef"
    assert file_name("abcdef", longest=5).startswith("abcde-")
