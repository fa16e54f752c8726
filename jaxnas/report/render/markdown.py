"""The same report as GitHub-flavoured Markdown, with its figures as files beside it."""

from jaxnas.report.render.document import Block, Chapter, Code, Text
from jaxnas.report.say.cells import Table, escape_markdown, to_markdown
from jaxnas.report.say.drawing import Drawing


def page(chapters: list[Chapter], made: str, folders: list[str]) -> str:
    """Returns the whole report as Markdown, a chapter a question.

    ``made`` says when and with what the runs were made; ``folders`` where each chapter's
    figures lie, relative to the file.
    """
    esc = escape_markdown
    parts = []
    for chapter, folder in zip(chapters, folders, strict=True):
        parts += [f"# {esc(chapter.title)}", esc(chapter.subtitle)]
        parts += [f"> **Attention:** {esc(w)}" for w in chapter.warnings]
        parts.append(f"**{esc(chapter.lead)}**")
        parts.append("\n".join(f"- {esc(v)}" for v in chapter.verdicts))
        parts.append(" · ".join(f"{esc(n)} {esc(w)}" for n, w in chapter.facts))
        for section in chapter.sections:
            parts.append(f"## {esc(section.title)}")
            parts += [_block(block, folder) for block in section.blocks]
    parts.append(f"_jaxnas report{', ' if made else ''}{esc(made)}._")
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _block(block: Block, folder: str) -> str:
    if isinstance(block, Table):
        return to_markdown(block)
    if isinstance(block, Drawing):
        image = f"![{escape_markdown(block.alt)}]({folder}/{block.name}.svg)"
        title, caption = escape_markdown(block.title), escape_markdown(block.caption)
        return f"### {title}\n\n{image}\n\n{caption}"
    if isinstance(block, Code):
        fence = "```"
        while fence in block.text:
            fence += "`"
        return f"{fence}sh\n{block.text}\n{fence}"
    assert isinstance(block, Text)
    return escape_markdown(block.text)
