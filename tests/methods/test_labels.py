"""Lists of labels, and what answers say of them."""

from __future__ import annotations

from itertools import permutations
from math import exp, log

import pytest

from llm_distill.errors import DataError
from llm_distill.methods.labels import (
    Several,
    all_named_in,
    calibrated,
    cut_to,
    likeliest,
    likelihood_shares,
    merged,
    named_in,
    shares,
)
from llm_distill.rows.label_lists import LabelEntry, plain, read_labels

NAMES = ["politics", "politics and law", "arts, culture", "C"]


def test_a_list_of_names_or_of_definitions() -> None:
    text = "- sports\n- {name: ' arts ', definition: Music and film, examples: [A new opera.]}\n"
    assert read_labels(text, "x.yaml") == [
        LabelEntry("sports"),
        LabelEntry("arts", "Music and film", ("A new opera.",)),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{a: b}", "a list of two labels or more is needed"),
        ("- a", "a list of two labels or more is needed"),
        ("- a\n- b: [", "x.yaml is not valid YAML"),
        ("- a\n- 3", "x.yaml, label 2: needs a name, as text (in quotes, if YAML takes it for"),
        ("- a\n- yes", "x.yaml, label 2: needs a name, as text (in quotes, if YAML takes it for"),
        ("- a\n- {name: b, defintion: x}", "x.yaml, label 2: unknown defintion; allowed: def"),
        ("- a\n- {name: '...'}", "label 2: the name '...' has no letter"),
        ("- a\n- 'b; c'", "label 2: the name 'b; c' has one of < > ; or a line break"),
        ("- a\n- {name: b, examples: x}", "label 2: examples is a list of texts; found 'x'"),
        ("- Arts\n- b\n- arts.", "'Arts' and 'arts.' are one name to whoever reads an answer"),
        ("- a\n- a", "'a' and 'a' are one name"),
        ("- a\n- {name: b, definition: }", "label 2: the definition of 'b' is None; write what"),
        ("- a\n- {name: b, definition: '  '}", "label 2: the definition of 'b' is '  '; write"),
        ("- a\n- {name: b, definition: [c]}", "label 2: the definition of 'b' is ['c']; write"),
        ("- mu\u0301sica\n- m\u00fasica", "are one name to whoever reads an answer"),
    ],
)
def test_what_is_no_list_of_labels(text: str, says: str) -> None:
    with pytest.raises(DataError) as error:
        read_labels(text, "x.yaml")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("<label>politics</label>", "politics"),
        (
            "It may be <label>C</label>, but: <LABEL> Politics and  Law. </LABEL>",
            "politics and law",
        ),
        ("**politics**", "politics"),
        ("Arts, culture.", "arts, culture"),
        ("politics and", None),
        ("politics and law and more", None),
        ("it is politics", None),
        ("<label></label>", None),
        ("", None),
        ("c", "C"),
        ("<label>politics and law", "politics and law"),  # a stop string ended it
        ("I thought of arts, but: <LABEL>politics", "politics"),
    ],
)
def test_a_label_is_named_whole(answer: str, label: str | None) -> None:
    """One that another begins with is not taken for it, in whatever order the list is."""
    assert {named_in(answer, order) for order in permutations(NAMES)} == {label}


@pytest.mark.parametrize("answer", ["politics", "<label>politics", "<label>politics and law"])
def test_a_label_that_was_cut_is_none(answer: str) -> None:
    """It may be what a longer name begins with."""
    assert named_in(answer, NAMES, is_cut=True) is None
    whole = f"<label>politics</label> since {answer}"
    assert named_in(whole, NAMES, is_cut=True) == "politics"


def test_several_labels_in_one_answer() -> None:
    answer = "<label>c; arts, culture; sports;; C</label>"
    assert all_named_in(answer, NAMES) == Several(["arts, culture", "C"], ["sports"], True)
    assert all_named_in("<label></label>", NAMES) == Several([], [], True)
    assert all_named_in("politics\npolitics and law", NAMES) == Several(NAMES[:2], [], True)


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ("<label>C, politics</label>", ["politics", "C"]),
        ("<label>arts, culture</label>", ["arts, culture"]),  # a name with a comma
        ("<label>C, sports</label>", None),
        ("<label>C</label><label>politics</label>", ["politics", "C"]),
        ("<label>C</label>, <label>politics</label>.", ["politics", "C"]),
        ("I thought of <label>C</label>, but it is <label>politics</label>", ["politics"]),
        ("<label>C; politics", ["politics", "C"]),  # a stop string ended it
        ("<LABEL>c</LABEL>", ["C"]),
        ("<label> </label>", []),
        ("<label>none</label>", None),
        ("I'm sorry, I can't help with that.", None),
        ("", None),
        ("politics", ["politics"]),
    ],
)
def test_none_of_the_labels_is_not_the_same_as_no_answer(
    answer: str, given: list[str] | None
) -> None:
    found = all_named_in(answer, NAMES)
    assert found.is_readable is (given is not None)
    assert found.given == (given or [])


def test_a_list_that_was_cut_is_none() -> None:
    """Its last name may be half a name, or another that begins like it."""
    assert not all_named_in("<label>C; politics", NAMES, is_cut=True).is_readable
    assert not all_named_in("C; politics", NAMES, is_cut=True).is_readable
    whole = all_named_in("<label>C; politics</label> because", NAMES, is_cut=True)
    assert whole == Several(["politics", "C"], [], True)


def test_calibration_takes_away_what_is_the_same_in_all_texts() -> None:
    true = [[0.8, 0.2], [0.2, 0.8], [0.6, 0.4], [0.4, 0.6]]
    found, means = calibrated(true)
    assert means == pytest.approx([0.5, 0.5])
    assert found == [pytest.approx(each) for each in true]  # nothing is liked, nothing is changed
    liked = [[9 * a / (9 * a + b), b / (9 * a + b)] for a, b in true]
    assert [p > q for p, q in liked] == [True] * 4
    anew, means = calibrated(liked)
    assert means[0] > 0.8
    assert [p > q for p, q in anew] == [p > q for p, q in true]
    assert all(sum(each) == pytest.approx(1) for each in anew)
    assert calibrated([[1.0, 0.0], [1.0, 0.0]])[0] == [[1.0, 0.0], [1.0, 0.0]]  # never thought of


def test_shares_of_votes_and_of_likelihoods() -> None:
    assert shares(["C", "politics", "C", "C"], NAMES) == [0.25, 0, 0, 0.75]
    with pytest.raises(ValueError, match="at least one vote"):
        shares([], NAMES)
    logps = [-1.0, -2.5, -700.0]
    whole = sum(map(exp, logps))
    found = likelihood_shares(logps)
    assert found == pytest.approx([exp(each) / whole for each in logps])
    assert likelihood_shares([each - 5000 for each in logps]) == pytest.approx(found)
    assert likelihood_shares([log(0.2), log(0.6)]) == pytest.approx([0.25, 0.75])
    assert likeliest([0.4, 0.2, 0.4], ["a", "b", "c"]) == ("a", 0.4)


def test_words_are_cut_and_white_space_kept() -> None:
    text = "  one\n\ntwo\tthree  "
    assert cut_to(text, 2) == "  one\n\ntwo"
    assert cut_to(text, 3) == "  one\n\ntwo\tthree"
    assert cut_to(text, 9) == "  one\n\ntwo\tthree"
    assert cut_to("", 2) == ""


@pytest.mark.parametrize("letter", ["新", "か", "カ", "ก", "\U00020001"])
def test_a_text_without_spaces_is_cut_by_characters(letter: str) -> None:
    assert cut_to(letter * 2000, 5) == letter * 5
    assert cut_to(f"two words\u3000{letter * 3}", 4) == f"two words\u3000{letter * 2}"
    assert cut_to(f"{letter}NATO{letter}", 2) == f"{letter}NATO"
    assert cut_to("말은 띄어 쓴다", 2) == "말은 띄어"  # Korean has spaces


def test_parts_of_a_class_whose_own_name_has_the_mark() -> None:
    """Such as Sci/Tech and Sci/Life, which are two classes and no parts of one."""
    names = ["Sci/Tech/1", "Sci/Tech/2", "Sci/Life/1", "Sci/Life/2", "World"]
    found = merged([0.1, 0.2, 0.3, 0.15, 0.25], names, "/")
    assert found[0] == ["Sci/Tech", "Sci/Life", "World"]
    assert found[1] == pytest.approx([0.3, 0.45, 0.25])


def test_plain_names() -> None:
    assert plain("`Sports`") == plain("sports.") == "sports"
    assert plain("c++") == "c++"
    assert plain("«Спорт».") == plain("“спорт”") == "спорт"
    assert plain("体育。") == "体育"
    assert plain("Mu\u0301sica") == plain("m\u00fasica")
