"""The report's content without a page: as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sparsity_lab.messages import Words
from sparsity_lab.report.page import Page, Table
from sparsity_lab.report.render import TONES

_MARKUP = re.compile(r"([\\`*_\[\]<>|#~])")


def render_markdown(page: Page, words: Words, figures: str) -> str:
    """The page as GitHub's Markdown, its figures as links to `figures/<name>.svg`.

    Whatever could be markup in a text is escaped.
    """
    blocks = (
        f"# {_escaped(page.study)}: {_escaped(words.say('page-question'))}",
        _escaped(page.description),
        *_top(page, words),
        f"## {words.say('page-evidence')}",
        f"**{_escaped(words(page.verdict.headline))}**",
        _list(_escaped(words(reason)) for reason in page.verdict.reasons),
        *(
            f"### {_escaped(words(finding.title))}{f' ({words.say(tone)})' if tone else ''}\n\n"
            + words.space.join(_escaped(words(sentence)) for sentence in finding.sentences)
            for finding in page.findings
            for tone in [TONES[finding.tone]]
        ),
        f"## {words.say('page-figures')}",
        *(
            f"### {_escaped(words(plate.title))}\n\n![{_escaped(words(plate.alt))}]({figures}/{plate.name}.svg)\n\n"
            f"{_escaped(words(plate.caption))}"
            for plate in page.plates
        ),
        f"## {words.say('page-tables')}",
        *(_table(table, words) for table in page.tables),
        f"## {words.say('page-reproduce')}",
        "```\n" + "\n".join(page.commands) + "\n```",
        *(
            f"**{words(heading)}**\n\n{_facts((words(name), value) for name, value in rows)}"
            for heading, rows in page.facts.items()
        ),
    )
    return "\n\n".join(block for block in blocks if block) + "\n"


def _top(page: Page, words: Words) -> Iterator[str]:
    top = page.top
    yield f"## {words.say('page-recommendation')}"
    yield f"**{_escaped(words(top.headline))}**"
    yield words.space.join(_escaped(words(reason)) for reason in top.reasons)
    yield _list(
        f"{_escaped(words(one.label))}: **{_escaped(words(one.value))}**"
        + (f" ({_escaped(words(one.note))})" if one.note else "")
        for one in top.numbers
    )
    for one in top.answers:
        yield f"### {_escaped(words(one.question))} {words.say(f'colour-{one.colour}')}"
        yield _escaped(words(one.answer))
        if one.change:
            yield f"{words.say('page-change')} {_escaped(words(one.change))}"
    if top.steps:
        yield f"## {words.say('page-steps')}"
        yield "\n".join(f"{number}. {_escaped(words(step))}" for number, step in enumerate(top.steps, 1))
    if top.assumptions:
        yield f"## {words.say('page-assumed')}"
        yield _facts((words(name), words(value)) for name, value in top.assumptions)


def _table(table: Table, words: Words) -> str:
    rule = ["---" if column in table.text_columns else "---:" for column in range(len(table.head))]
    head, *body = ([_escaped(words(cell)) for cell in row] for row in (table.head, *table.rows))
    rows = "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))
    return f"**{_escaped(words(table.caption))}**\n\n{rows}"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(("| | |", "| --- | --- |", *(f"| {_escaped(name)} | {_escaped(value)} |" for name, value in rows)))


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text.replace("\n", " "))
