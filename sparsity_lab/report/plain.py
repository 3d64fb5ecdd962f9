"""The report's content without a page: as Markdown for people, as JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from sparsity_lab.cost.advice import Advice
from sparsity_lab.report.finding import Finding
from sparsity_lab.report.language import Words
from sparsity_lab.report.render import COLOURS, TONES, Page
from sparsity_lab.report.table import Table

_MARKUP = re.compile(r"([\\`*_\[\]<>|#~])")


def render_markdown(page: Page, words: Words, figures: str) -> str:
    """The page as GitHub's Markdown, its figures as links to `figures/<name>.svg`.

    Whatever could be markup in a text is escaped.
    """
    blocks = (
        f"# {_escaped(page.study)}: {_escaped(words('does sparsity pay?'))}",
        _escaped(page.description),
        *_top(page, words),
        f"## {words('Evidence')}",
        f"**{_escaped(words(page.verdict.headline))}**",
        _list(_escaped(words(reason)) for reason in page.verdict.reasons),
        *(block for finding in page.findings for block in _finding(finding, words)),
        f"## {words('Figures')}",
        *(
            f"### {_escaped(words(plate.title))}\n\n![{_escaped(words(plate.alt))}]({figures}/{plate.name}.svg)\n\n"
            f"{_escaped(words(plate.caption))}"
            for plate in page.plates
        ),
        f"## {words('Tables')}",
        *(_table(table, words) for table in page.tables),
        f"## {words('How to reproduce')}",
        "```\n" + "\n".join(page.commands) + "\n```",
        *(
            f"**{words(heading)}**\n\n{_facts((words.name(name), value) for name, value in rows)}"
            for heading, rows in page.facts.items()
        ),
    )
    return "\n\n".join(block for block in blocks if block) + "\n"


def page_json(page: Page, advice: Advice | None, words: Words) -> dict[str, Any]:
    """Everything on the page as plain values, texts in the page's language; unknown numbers are null."""
    return {
        "version": 1,
        "kind": "report",
        "language": words.language,
        "study": page.study,
        "description": page.description,
        "recommendation": asdict(page.top),
        "advice": advice.json() if advice else None,
        "verdict": {
            "choice": page.verdict.choice,
            "sparsity": page.verdict.sparsity,
            **_said({"headline": page.verdict.headline, "reasons": page.verdict.reasons}, words),
        },
        "findings": [
            {
                "key": finding.key,
                "tone": finding.tone,
                **_said({"title": finding.title, "sentences": finding.sentences}, words),
                "numbers": {name: _finite(value) for name, value in finding.numbers.items()},
            }
            for finding in page.findings
        ],
        "figures": [
            {"name": plate.name, **_said({"title": plate.title, "caption": plate.caption, "alt": plate.alt}, words)}
            for plate in page.plates
        ],
        "tables": [
            {"key": table.key, **_said({"caption": table.caption, "head": table.head, "rows": table.rows}, words)}
            for table in page.tables
        ],
        "facts": {heading: dict(rows) for heading, rows in page.facts.items()},
        "commands": list(page.commands),
    }


def _top(page: Page, words: Words) -> Iterator[str]:
    top = page.top
    yield f"## {words('Recommendation')}"
    yield f"**{_escaped(top.headline)}**"
    yield words.space.join(_escaped(reason) for reason in top.reasons)
    yield _list(
        f"{_escaped(one.label)}: **{_escaped(one.value)}**" + (f" ({_escaped(one.note)})" if one.note else "")
        for one in top.numbers
    )
    for one in top.answers:
        yield f"### {_escaped(one.question)} {words(COLOURS[one.colour])}"
        yield _escaped(one.answer)
        if one.change:
            yield f"{words('What would change it:')} {_escaped(one.change)}"
    if top.steps:
        yield f"## {words('Next steps')}"
        yield "\n".join(f"{number}. {_escaped(step)}" for number, step in enumerate(top.steps, 1))
    if top.assumptions:
        yield f"## {words('What was assumed')}"
        yield _facts(top.assumptions)


def _finding(finding: Finding, words: Words) -> Iterator[str]:
    tone = f" ({words(TONES[finding.tone])})" if TONES[finding.tone] else ""
    yield f"### {_escaped(words(finding.title))}{tone}"
    yield words.space.join(_escaped(words(sentence)) for sentence in finding.sentences)


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


def _said(value: Any, words: Words) -> Any:
    """Texts in the page's language, also inside lists and under names."""
    match value:
        case str():
            return words(value)
        case dict():
            return {name: _said(one, words) for name, one in value.items()}
        case _:
            return [_said(one, words) for one in value]


def _finite(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
