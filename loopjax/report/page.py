"""The page: what `folder` has read and `traces` have walked, put into `template.html`."""

from __future__ import annotations

import json
import os
import re
import string
import textwrap
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from loopjax import results
from loopjax.claims import NOT_RUN
from loopjax.plotting import inline
from loopjax.report import folder, leaderboard, sentences, verdicts, walk_groups
from loopjax.report.folder import Folder
from loopjax.report.walk_groups import Walks
from loopjax.runtime import files

_HERE = Path(__file__).parent
_HOW_TO_READ = """A claim holds or fails if the whole 95% interval of its median over seeds lies on one side of the
bound, else it is undecided. It is unfit where students have not learnt their task, and then says nothing. Null: the
value without the mechanism. Predicted: the exact value with it. To scale: the shaded side is where the claim holds,
the dashed line is the bound, the bar the interval, the dot the median, the square the null, the triangle the
prediction, the diamond the published value."""
OTHER = "other"  # the section of figures that belong to no experiment


def write(
  results_dir: str | os.PathLike[str], output: str | os.PathLike[str], descriptions: Mapping[str, str],
  students: str = walk_groups.ALL,
) -> list[str]:  # fmt: skip
  """Writes the report of a results folder, atomically.

  Args:
    results_dir: as `experiments.reproduce` writes it.
    output: the HTML file.
    descriptions: experiment -> its text, as in a module's docstring; experiments stand in this order.
    students: a pattern of the names of groups of students, whose walks are shown.

  Returns:
    What could not be read, a line each; the page lists them too.

  Raises:
    ValueError: there is no such folder; no group of students matches.
  """
  problems: list[str] = []
  content = folder.read(results_dir, problems)
  walks = walk_groups.read(Path(results_dir) / "checkpoints", list(descriptions), problems, students)
  text = render(results_dir, content, walks, descriptions, problems)
  files.write_atomically(output, lambda temporary: temporary.write_text(text, encoding="utf-8"))
  return problems


def render(
  results_dir: str | os.PathLike[str], content: Folder, walks: Walks, descriptions: Mapping[str, str],
  problems: list[str],
) -> str:  # fmt: skip
  """The page as text; figures that are no SVG add to `problems`."""
  sections = _sections(content, descriptions, problems)  # first: it may add to the problems
  return string.Template((_HERE / "template.html").read_text(encoding="utf-8")).substitute(
    name=escape(Path(results_dir).resolve().name),
    style=(_HERE / "style.css").read_text(encoding="utf-8") + inline.STYLE,
    script="\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("viewer.js", "sorting.js")),
    facts=_facts(content),
    problems=_problems(problems),
    claims=_claims(content),
    sections=sections,
    links=_links(content, descriptions),
    provenance=_provenance(content),
    about_walks=walk_groups.about(walks, results_dir),
    data=json_for_html({"groups": walks.groups}),
  )


def json_for_html(value: Any) -> str:
  """Compact JSON that no HTML parser can end early: `<`, `>` and `&` as escapes.

  Raises:
    ValueError: a number that is NaN or infinite.
  """
  text = json.dumps(value, separators=(",", ":"), allow_nan=False)
  return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", text)


def prose(text: str) -> str:
  """A docstring as HTML: paragraphs, indented ones as code, and `code` between backticks."""
  paragraphs = re.split(r"\n\s*\n", text.strip())
  return "\n".join(_paragraph(paragraph) for paragraph in paragraphs if paragraph.strip())


def _paragraph(text: str) -> str:
  if text.startswith(" "):
    return f'<pre tabindex="0"><code>{escape(textwrap.dedent(text))}</code></pre>'
  return "<p>" + re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)) + "</p>"


def _title(name: str) -> str:
  return escape(name.replace("_", " ").capitalize())


def _experiments(content: Folder, descriptions: Mapping[str, str]) -> list[str]:
  """The experiments that left something in the folder, those described first, and `OTHER` where figures are left."""
  owned = {*content.runs, *(_owner(figure, content, descriptions) for figure in content.figures)}
  first = [name for name in descriptions if name in owned]
  return (
    first + sorted(name for name in owned if name not in descriptions and name != OTHER) + [OTHER] * (OTHER in owned)
  )


def _owner(file: str, content: Folder, descriptions: Mapping[str, str]) -> str:
  """The experiment whose name a figure's or table's name begins with, the longest; else `OTHER`."""
  names = [name for name in {*descriptions, *content.runs} if file == name or file.startswith(f"{name}_")]
  return max(names, key=len, default=OTHER)


def _links(content: Folder, descriptions: Mapping[str, str]) -> str:
  names = _experiments(content, descriptions)
  return "".join(f'<li><a href="#of-{escape(name)}">{_title(name)}</a></li>' for name in names)


def _sections(content: Folder, descriptions: Mapping[str, str], problems: list[str]) -> str:
  return "\n".join(_section(name, content, descriptions, problems) for name in _experiments(content, descriptions))


def _section(name: str, content: Folder, descriptions: Mapping[str, str], problems: list[str]) -> str:
  mine = [figure for figure in content.figures if _owner(figure, content, descriptions) == name]
  drawn = [folder.attempt(problems, lambda figure=figure: _figure(figure, content)) for figure in mine]  # type: ignore[misc]
  tables = {file: table for file, table in content.tables.items() if _owner(file, content, descriptions) == name}
  boards = [board for file, board in content.boards.items() if _owner(file, content, descriptions) == name]
  return f"""<section id="of-{escape(name)}" aria-labelledby="of-{escape(name)}-title">
<h2 id="of-{escape(name)}-title">{_title(name)}</h2>
<div class="prose">{prose(descriptions.get(name, ""))}</div>
{"".join(map(leaderboard.section, boards))}
<div class="figures">{"".join(figure for figure in drawn if figure)}</div>
{_run(content.runs.get(name))}
{_tables(tables)}
</section>"""


def _figure(name: str, content: Folder) -> str:
  label = name.replace("_", " ")
  try:
    drawing = inline.inline(content.figures[name], name, f"Figure: {label}")
  except ValueError as error:
    raise ValueError(f"figures/{name}.svg: {error}") from error
  return f"<figure>{drawing}<figcaption>{escape(label)}</figcaption></figure>"


def _run(run: dict[str, Any] | None) -> str:
  """Wall time and settings of one experiment."""
  if run is None:
    return ""
  rows = "".join(
    f"<tr><th scope=row><code>{escape(key)}</code></th><td>{escape(_value(value))}</td></tr>"
    for key, value in results.flatten(run["config"]).items()
  )
  seconds = run.get("wall_seconds")
  took = f"<p class=hint>Wall time: {_duration(seconds)}.</p>" if isinstance(seconds, int | float) else ""
  return took + _folded("Settings", rows)


def _folded(summary: str, rows: str) -> str:
  """A table that opens on demand."""
  table = f'<div class="scroller" tabindex="0"><table class="plain">{rows}</table></div>'
  return f"<details><summary>{summary}</summary>{table}</details>"


def _value(value: Any) -> str:
  return (
    ", ".join(map(_value, value))
    if isinstance(value, list)
    else json.dumps(value)
    if isinstance(value, bool)
    else str(value)
  )


def _duration(seconds: float) -> str:
  minutes = round(seconds / 60)
  return f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min" if minutes < 120 else f"{seconds / 3600:.1f} h"


def _tables(tables: Mapping[str, folder.Table]) -> str:
  rows = "".join(
    f"<tr><th scope=row><code>results/{escape(name)}.parquet</code></th><td>{table.num_rows:,}</td>"
    f"<td>{table.num_columns}</td><td>{table.num_seeds or '–'}</td></tr>"
    for name, table in tables.items()
  )
  if not rows:
    return ""
  head = "<tr><th scope=col>file</th><th scope=col>rows</th><th scope=col>columns</th><th scope=col>seeds</th></tr>"
  return _folded("Data", head + rows)


def _claims(content: Folder) -> str:
  if content.claims is None:
    return "<p>There is no readable table of claims in this folder.</p>"
  was_run = content.claims["verdict"] != NOT_RUN
  measured, others = content.claims[was_run], content.claims[~was_run]
  parts = [f'<ul class="chips">{verdicts.summary(content.claims)}</ul>']
  if len(measured):
    parts.append(f"<details><summary>How to read a claim</summary><p>{escape(_HOW_TO_READ)}</p></details>")
  for family, rows in sentences.groups(measured):
    said = " ".join(sentences.of_family(rows))
    parts.append(f'<h3>{escape(family[:1].upper() + family[1:])}</h3><p class="prose">{escape(said)}</p>')
    parts.append(verdicts.table(rows, f"Claims: {family}"))
  if len(others):
    rest = verdicts.table(others, "A preset is held only to the claims that it is large enough for.")
    parts.append(f"<details><summary>Not run: {len(others)}</summary>{rest}</details>")
  return "\n".join(parts)


def _facts(content: Folder) -> str:
  """What the reader should know first: device, versions, commit; of the first run that says so."""
  provenance: dict[str, Any] = next((run["provenance"] for run in content.runs.values()), {})
  device = f"{provenance.get('device_count', '?')} × {provenance.get('device_kind', 'unknown device')}"
  facts = [device, f"jax {provenance.get('jax', '?')}", f"commit {str(provenance.get('git_commit', '?'))[:10]}"]
  known = [run["wall_seconds"] for run in content.runs.values() if isinstance(run.get("wall_seconds"), int | float)]
  facts += [f"{_duration(sum(known))} in all"] if len(known) == len(content.runs) > 0 else []
  return "".join(f"<li>{escape(fact)}</li>" for fact in facts)


def _provenance(content: Folder) -> str:
  """A column for each provenance; experiments that share one share a column."""
  columns: dict[str, list[str]] = {}
  for name, run in content.runs.items():
    columns.setdefault(json.dumps(run["provenance"], sort_keys=True), []).append(name)
  values = [json.loads(key) for key in columns]
  fields = list(dict.fromkeys(field for value in values for field in value))
  head = "".join(f"<th scope=col>{escape(', '.join(names))}</th>" for names in columns.values())
  rows = "".join(
    f"<tr><th scope=row>{escape(field)}</th>"
    + "".join(f"<td>{escape(str(v.get(field, '–')))}</td>" for v in values)
    + "</tr>"
    for field in fields
  )
  return f"<table class=plain><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>" if values else ""


def _problems(problems: list[str]) -> str:
  if not problems:
    return ""
  items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
  return (
    f'<section class="problems" aria-labelledby="problems"><h2 id="problems">Not read</h2><ul>{items}</ul></section>'
  )
