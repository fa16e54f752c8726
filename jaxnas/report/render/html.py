"""One self-contained page: no script, no network; readable in the dark and on paper."""

import base64
import html
from importlib import resources

from jaxnas.report.render.document import Block, Chapter, Code, Section, Text
from jaxnas.report.say.cells import Table, to_html
from jaxnas.report.say.drawing import Drawing

_STYLE = resources.files("jaxnas.report.render").joinpath("style.css").read_text("utf-8")


def page(chapters: list[Chapter], made: str) -> str:
    """Returns the whole report as one HTML document, a chapter a question.

    ``made`` says when and with what the runs were made.
    """
    esc = html.escape
    title = chapters[0].title if len(chapters) == 1 else f"{len(chapters)} questions"
    parts = [_chapter(c, i, alone=len(chapters) == 1) for i, c in enumerate(chapters)]
    kicker = f'<p class="kicker">jaxnas report{" · " if made else ""}{esc(made)}</p>'
    contents = ""
    if len(chapters) > 1:
        links = "".join(f'<li><a href="#q{i}">{esc(c.title)}</a></li>'
                        for i, c in enumerate(chapters))  # fmt: skip
        contents = f"<h1>{esc(title)}</h1><ul>{links}</ul>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{esc(title)} · jaxnas report</title><style>{_STYLE}</style></head>"
        f"<body><main>{kicker}{contents}{''.join(parts)}"
        "<footer>Built by jaxnas from the raw arrays of the runs. This file needs no "
        "network and no script.</footer></main></body></html>\n"
    )


def _chapter(chapter: Chapter, number: int, *, alone: bool) -> str:
    esc = html.escape
    prefix = "" if alone else f"q{number}-"
    head = "h1" if alone else "h2"
    big = "" if alone else ' class="chapter"'
    verdicts = "".join(f"<li>{esc(v)}</li>" for v in chapter.verdicts)
    facts = "".join(
        f"<li><b>{esc(n)}</b><span>{esc(w)}</span></li>" for n, w in chapter.facts
    )
    links = "".join(
        f'<a href="#{prefix}{s.anchor}">{esc(s.title)}</a>' for s in chapter.sections
    )
    warnings = "".join(
        f'<p class="warning" role="note"><strong>Attention:</strong> {esc(w)}</p>'
        for w in chapter.warnings
    )
    return (
        f'<header id="q{number}"><{head}{big}>{esc(chapter.title)}</{head}>'
        f'<p class="subtitle">{esc(chapter.subtitle)}</p>{warnings}'
        f'<p class="lead">{esc(chapter.lead)}</p>'
        f'<ul class="verdicts">{verdicts}</ul><ul class="facts">{facts}</ul>'
        f'<nav aria-label="Contents">{links}</nav></header>'
        + "".join(_section(section, prefix) for section in chapter.sections)
    )


def _section(section: Section, prefix: str) -> str:
    body = "".join(_block(block) for block in section.blocks)
    anchor = prefix + section.anchor
    return (
        f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">'
        f"{html.escape(section.title)}</h2>{body}</section>"
    )


def _block(block: Block) -> str:
    esc = html.escape
    if isinstance(block, Table):
        return to_html(block)
    if isinstance(block, Drawing):
        data = base64.b64encode(block.svg).decode()
        return (
            f'<figure><h3>{esc(block.title)}</h3><div class="fig" tabindex="0" '
            f'role="region" aria-label="{esc(block.title, quote=True)}">'
            f'<img src="data:image/svg+xml;base64,{data}" '
            f'alt="{esc(block.alt, quote=True)}"></div>'
            f"<figcaption>{esc(block.caption)}</figcaption></figure>"
        )
    if isinstance(block, Code):
        return f"<pre><code>{esc(block.text)}</code></pre>"
    assert isinstance(block, Text)
    kind = "" if block.kind == "plain" else f' class="{block.kind}"'
    return f"<p{kind}>{esc(block.text)}</p>"
