"""Texts from a CSV: splits, words, options, refusals. All texts are synthetic."""

import csv
import hashlib

import numpy as np
import pytest

import jaxnas
from jaxnas import load_texts
from jaxnas.core.errors import UserError
from jaxnas.data.splits import shared
from jaxnas.data.tasks import load_task
from jaxnas.data.texts.sources import is_text, split_reading
from jaxnas.data.texts.words import CUTS, Reading, encode, fitting_length, most_frequent


def rows(n=60, seed=0):
    """Synthetic texts of two labels, all different; some words are rare."""
    rng = np.random.default_rng(seed)
    fill = ["the", "a", "film", "was", "it"]
    return [
        (f"{' '.join(rng.choice(fill, 4))} {'good' if i % 3 else 'bad'} w{i}",
         "up" if i % 3 else "down")
        for i in range(n)
    ]  # fmt: skip


def write(path, lines, header=("text", "label"), mark=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=mark)
        writer.writerow(header)
        writer.writerows(lines)
    return path


@pytest.fixture
def own(tmp_path):
    return write(tmp_path / "own.csv", rows())


def test_splits_are_stratified_by_content_and_share_nothing(own, tmp_path):
    data = load_texts(own)
    sizes = {part: len(y) for part, (_, y) in data.splits.pairs().items()}
    assert sizes == {"train": 36, "validation": 12, "test": 12}
    for _, y in data.splits.pairs().values():
        assert np.bincount(y).tolist() == [len(y) // 3, 2 * len(y) // 3]
    everything = [text for part in data.texts.values() for text in part]
    assert len(set(everything)) == 60
    assert sum(shared(data.splits).values()) == 0
    for part, (x, y) in data.splits.pairs().items():
        labels = dict(rows())
        assert [labels[text] for text in data.texts[part]] == [
            ("down", "up")[label] for label in y
        ]
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
    turned = write(tmp_path / "turned.csv", rows()[::-1])
    assert load_texts(turned).checksum == data.checksum
    other = load_texts(f"{own},seed=1")
    assert other.checksum != data.checksum
    assert other.texts["test"] != data.texts["test"]


def test_equal_texts_fall_on_one_side(tmp_path):
    doubled = write(tmp_path / "d.csv", rows() + rows()[:30])
    texts = load_texts(doubled).texts
    for a, b in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not set(texts[a]) & set(texts[b])
    assert sum(map(len, texts.values())) == 90


def test_words_are_known_by_the_training_split_alone(own):
    """A word of one text is known where that text is for training, and only there."""
    data = load_texts(own)
    for part, (x, _) in data.splits.pairs().items():
        for text, ids in zip(data.texts[part], x, strict=True):
            rare = text.split()[-1]
            assert (rare in data.vocabulary) == (part == "train")
            assert ids[len(text.split()) - 1] == (
                data.vocabulary.index(rare) if part == "train" else 1
            )


def test_ids_say_the_text_again(own):
    data = load_texts(f"{own},length=9")
    for text, ids in zip(data.texts["train"], data.x_train, strict=True):
        words = [data.vocabulary[int(i)] for i in ids if i]
        assert " ".join(words) == text
        assert not ids[len(words) :].any()


def test_frequent_words_come_first_and_ties_by_name():
    texts = [["b", "a", "c"], ["c", "b"], ["c"]]
    assert most_frequent(texts, 4) == ("<padding>", "<unknown>", "c", "b")
    assert most_frequent(texts, 99)[2:] == ("c", "b", "a")
    ids = encode([["c", "x", "b"], ["a"]], ("<padding>", "<unknown>", "c", "b", "a"), 2)
    assert ids.tolist() == [[2, 1], [4, 0]]
    # A word that is spelled as a special id is no special id.
    assert encode([["<padding>"]], most_frequent([["<padding>"]], 9), 1).tolist() == [[2]]


def test_a_length_that_holds_95_percent():
    texts = [["x"] * n for n in range(1, 101)]
    assert fitting_length(texts, "words") == 95
    assert fitting_length([["x"] * 900] * 3, "words") == 256


def test_how_texts_are_cut():
    assert CUTS["words"]("Don't say: 3 naïve x's!") == [
        "don't", "say", ":", "3", "naïve", "x's", "!",
    ]  # fmt: skip
    assert CUTS["characters"]("A  b\n!") == ["a", " ", "b", " ", "!"]


def test_characters_and_sizes_are_options(own):
    data = load_texts(f"{own},tokens=characters,length=20,vocabulary=10")
    assert data.x_train.shape == (36, 20)
    assert len(data.vocabulary) == 10
    assert all(len(word) == 1 for word in data.vocabulary[2:])


def test_a_limit_keeps_the_shares_and_is_nested(own):
    small, large = (load_texts(own, limit=n) for n in (6, 9))
    assert np.bincount(small.y_train).tolist() == [2, 4]
    assert set(small.texts["train"]) < set(large.texts["train"])
    assert small.name.endswith(",limit=6")
    with pytest.raises(UserError, match="leaves no text of class 0"):
        load_texts(own, limit=1)
    with pytest.raises(UserError, match="limit=0"):
        load_texts(own, limit=0)


def test_other_marks_names_and_columns(tmp_path):
    plain = load_texts(write(tmp_path / "a.csv", rows()))
    numbered = [(str(i), label, text) for i, (text, label) in enumerate(rows())]
    pandas = write(tmp_path / "b.tsv", numbered, ("", "Class", "Review"), "\t")
    assert load_texts(pandas).checksum == plain.checksum
    odd = write(tmp_path / "c.csv", numbered, ("id", "stars", "what, they said"), ";")
    with pytest.raises(UserError, match="has the columns 'id', 'stars'"):
        load_texts(odd)
    named = write(tmp_path / "d.csv", numbered, ("id", "stars", "said"))
    assert load_texts(f"{named},text=said,label=stars").checksum == plain.checksum
    with pytest.raises(UserError, match="Did you mean 'stars'"):
        load_texts(f"{named},text=said,label=star")


def test_what_stands_for_texts():
    assert is_text("reviews.csv")
    assert is_text("a/b.TSV,length=3,tokens=words")
    assert is_text("vader-sign,length=3")
    assert not is_text("digits")
    assert not is_text("photos,size=32")
    name, reading = split_reading("odd,name.csv,length=3")
    assert (name, reading) == ("odd,name.csv", Reading(length=3))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("length=0", "length=0 must be 1 or more"),
        ("vocabulary=0", "vocabulary=0 must be 3 or more"),
        ("vocabulary=2", "vocabulary=2 must be 3 or more"),
        ("vocabulary=many", "no whole number"),
        ("length=-1", "no whole number"),
        ("length=10,length=11", "stands twice"),
        ("tokens=letters", "Unknown kind of tokens"),
        ("lengths=4", "Did you mean 'length'"),
        ("size=32", "Unknown option of texts"),
        ("length=999999999999", "use a smaller length"),
    ],
)
def test_options_out_of_range_are_named(own, options, text):
    with pytest.raises(UserError, match=text):
        load_texts(f"{own},{options}")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "has no rows"),
        (b"text,label\n", "has no rows"),
        (b"text,stars\nx,1\n", "say which holds the labels"),
        (b"said,label\nx,1\n", "say which holds the texts"),
        (b"text,label\n\xff\xfe,1\n", "not text in UTF-8"),
        ("text,label\nx,1\n".encode("utf-16"), "not text in UTF-8"),
        (b"text,label\na,1\n  ,2\n", "line 3: the text is empty"),
        (b"text,label\na,1\nb,\n", "line 3: the label is empty"),
        (b"text,label\na,1\nb,1\nc,1\n", "one label, '1'"),
        (b"text,label\na,1\nb,1\nc,1\nd,2\n", "label '2' of .* has 1 distinct text,"),
        (b"text,label\na,1\nb,1\nc,1\nd,2\nd,2\ne,2\n", "'2' of .* has 2 distinct texts"),
        (b"text,label\na,1,3\n", "line 2: 3 values under 2 columns"),
        (b'text,label\n"a,1\n', "line 2"),
        (b"text,label,text\na,1,b\nc,2,d\n", "column 'text' twice"),
    ],
)
def test_files_that_cannot_be_learned_from(tmp_path, content, text):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=text):
        load_texts(path)


def test_a_byte_order_mark_and_line_breaks_in_quotes(tmp_path):
    path = tmp_path / "bom.csv"
    lines = [(f"one\ntwo {text}", label) for text, label in rows()]
    content = write(path, lines).read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + content)
    data = load_texts(path)
    assert all(text.startswith("one\ntwo") for text in data.texts["train"])


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_texts(tmp_path / "none.csv")
    with pytest.raises(UserError, match="Did you mean 'vader-sign'"):
        load_texts("vader-sing")
    with pytest.raises(UserError, match="no columns to choose"):
        load_texts("vader-sign,text=said")


def test_a_task_is_of_texts_or_of_images(own):
    assert load_task(own).checksum == load_texts(own).checksum
    assert (
        load_task("digits", limit=50).checksum
        == jaxnas.load_images("digits", limit=50).checksum
    )


def test_the_checksum_covers_the_vocabulary(own, tmp_path):
    """The same ids of other words are another task."""
    changed = [(text.replace("film", "filn"), label) for text, label in rows()]
    a, b = load_texts(own), load_texts(write(tmp_path / "b.csv", changed))
    assert a.checksum != b.checksum
    assert len(a.checksum) == len(hashlib.sha256().hexdigest())
