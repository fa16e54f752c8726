"""Short texts that people rated from -4 to 4: is the mean rating positive or negative?

Tweets, product and film reviews and newspaper sentences from the source distribution of
``vaderSentiment``, which holds an archive of the data of its paper. The sentences are their
authors', so nothing is shipped: the reader's package client fetches the distribution, which
is verified, read without being unpacked, and kept in the cache as numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.data.formats.archives import read_members
from jaxnas.data.recipes import Arrays, Recipe, load

RELEASE = "3.3.2"
FILE = f"vaderSentiment-{RELEASE}.tar.gz"
INNER = f"vaderSentiment-{RELEASE}/additional_resources/hutto_ICWSM_2014.tar.gz"
PARTS = tuple(
    f"hutto_ICWSM_2014/{name}_GroundTruth.txt"
    for name in (
        "tweets",
        "amazonReviewSnippets",
        "movieReviewSnippets",
        "nytEditorialSnippets",
    )
)
LARGEST = 2**26
"""Bytes that either archive may unpack to; the real ones unpack to 3 and 7 MB."""
CLEAR = 0.5
"""Least size of a mean rating whose sign is asked for."""
CLASSES = ("negative", "positive")


def convert(contents: Mapping[str, bytes]) -> Arrays:
    """Returns the texts as UTF-8 in one array with the end of each, and their classes.

    Raises:
        UserError: the archive, or one of its files, is not what it should be.
    """
    inner = read_members(contents[FILE], [INNER], FILE, LARGEST)[INNER]
    files = read_members(inner, PARTS, INNER, LARGEST)
    texts, labels = [], []
    for name in PARTS:
        for text, rating in _rows(files[name], name):
            if abs(rating) > CLEAR:
                texts.append(text.encode())
                labels.append(int(rating > 0))
    return {
        "text": np.frombuffer(b"".join(texts), np.uint8),
        "end": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "label": np.array(labels, np.int32),
    }


def _rows(content: bytes, name: str) -> list[tuple[str, float]]:
    """Returns text and mean rating of each line of number, rating and text."""
    found = []
    try:
        for line in content.decode().strip().split("\n"):
            _, rating, text = line.split("\t")
            found.append((text.strip(), float(rating)))
    except ValueError as error:
        raise UserError(
            f"{name} does not hold lines of number, rating and text."
        ) from error
    return found


class VaderSign:
    """Sign of people's rating of 19,136 tweets, reviews and newspaper sentences."""

    recipe = Recipe(
        name="vader-sign",
        distribution="vaderSentiment",
        release=RELEASE,
        files=((FILE, "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"),),
        content_sha256="a53b8a9e165efbf179bae2417b0e61b03cd3ab16759b8ad3be6fcfb21c9f5722",
        convert=convert,
        install=f"pip download --no-deps --no-binary :all: vaderSentiment=={RELEASE}",
        licence="MIT",
        citation="Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment "
        "Analysis of Social Media Text, ICWSM 2014",
        homepage="https://github.com/cjhutto/vaderSentiment",
        folder=".",
        variable="JAXNAS_VADER",
        fetched=True,
    )

    def read(self) -> tuple[Sequence[str], Sequence[str]]:
        """Returns texts and labels, verified; see :class:`TextSource`."""
        arrays = load(self.recipe)
        content, ends = arrays["text"].tobytes(), arrays["end"].tolist()
        texts = [content[a:b].decode() for a, b in zip([0, *ends], ends)]
        return texts, [CLASSES[label] for label in arrays["label"]]
