"""SVG files made fit to stand inside a page: ids of their own, nothing that runs, nothing that is fetched."""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_DROPPED = {"metadata", "script", "style", "foreignObject", "a", "animate", "set", "iframe"}
_PNG = "data:image/png;base64,"
PREFIX = "piece_"  # of the ids of pieces
_SCALE = 1.75  # pixels per unit: text of 7 units is then 12 pixels high
NARROW = 760  # pixels of a screen, up to which figures are shown in pieces

# The whole figure stays in the page where its pieces are shown, since they show parts of it. Not with `display: none`:
# browsers would then not find its clip paths.
STYLE = f"""
.drawing {{ position: relative; overflow: hidden; stroke-linejoin: round; stroke-linecap: butt; }}
.drawing > svg, .pieces > svg {{ display: block; width: var(--width); max-width: 100%; height: auto; }}
.drawing > svg {{ margin: 0 auto; }}
.pieces {{ display: none; flex-wrap: wrap; justify-content: center; align-items: center; gap: 10px 14px; }}
@media (max-width: {NARROW}px) {{
  .in-pieces > svg {{ position: absolute; width: 0; height: 0; }}
  .pieces {{ display: flex; }}
  .drawing {{ padding: 8px 4px; }}
}}
"""


def inline(text: str, name: str, label: str) -> str:
  """An SVG document as an element for HTML, beside its pieces, if it has any; a page needs `STYLE` for it.

  Elements and attributes that run, link or fetch are left out; so are those that are not SVG. Ids and references to
  them get the prefix `name`, since the figures of a page share one space of ids.

  Args:
    text: the file.
    name: what makes the ids unique.
    label: what a screen reader says in its place.

  Raises:
    ValueError: it is no SVG.
  """
  try:
    root = ElementTree.fromstring(text)
  except ElementTree.ParseError as error:
    raise ValueError(f"is not XML: {error}") from error
  box = _box(root)
  if root.tag != f"{_SVG}svg" or box is None:
    raise ValueError("is not SVG with a viewBox")
  clean = _cleaned(root, name)
  parts = [_element(box, list(clean))]
  pieces = "".join(_piece(one) for one in clean.iter("symbol") if one.get("id", "").startswith(f"{name}-{PREFIX}"))
  if pieces:
    parts.append(f'<div class="pieces">{pieces}</div>')
  kind = "drawing in-pieces" if pieces else "drawing"
  return f'<div class="{kind}" role="img" aria-label="{escape(label)}">{"".join(parts)}</div>'


def _box(element: ElementTree.Element) -> list[str] | None:
  """The numbers of its `viewBox`; None where they are not four, or the size is not positive."""
  numbers = element.get("viewBox", "").split()
  is_right = len(numbers) == 4 and all(re.fullmatch(r"-?\d+(\.\d*)?", number) for number in numbers)
  return numbers if is_right and min(map(float, numbers[2:])) > 0 else None


def _piece(symbol: ElementTree.Element) -> str:
  """A symbol is shown from its own corner on, wherever its part of the figure lies."""
  box = _box(symbol)
  use = ElementTree.Element("use", href=f"#{symbol.get('id')}")
  return "" if box is None else _element(["0", "0", *box[2:]], [use])


def _element(box: list[str], content: list[ElementTree.Element]) -> str:
  """An `<svg>`, `_SCALE` pixels for a unit unless the page is narrower."""
  width = f"--width: {round(_SCALE * float(box[2]))}px"
  made = ElementTree.Element("svg", viewBox=" ".join(box), style=width)
  made.extend(content)
  return ElementTree.tostring(made, encoding="unicode", short_empty_elements=False)


def _cleaned(element: ElementTree.Element, name: str) -> ElementTree.Element:
  """A copy without namespaces, the way HTML writes SVG."""
  copy = ElementTree.Element(element.tag.removeprefix(_SVG))
  copy.text, copy.tail = element.text, element.tail
  for full_key, value in element.attrib.items():
    key = "href" if full_key == f"{_XLINK}href" else full_key
    if _is_allowed(key, value):
      copy.set(key, _with_prefix(key, value, name))
  for child in element:
    if _is_kept(child):
      copy.append(_cleaned(child, name))
  return copy


def _is_kept(element: ElementTree.Element) -> bool:
  """Whether it is SVG that neither runs nor links; an image must be in the file itself, as a map or a colour bar is."""
  if not isinstance(element.tag, str) or not element.tag.startswith(_SVG):
    return False
  tag = element.tag.removeprefix(_SVG)
  return _is_inside(element) if tag == "image" else tag not in _DROPPED


def _is_inside(image: ElementTree.Element) -> bool:
  return all(value.startswith(_PNG) for key, value in image.attrib.items() if key in ("href", f"{_XLINK}href"))


def _is_allowed(key: str, value: str) -> bool:
  if key.startswith(("{", "on")):
    return False
  if key == "href":
    return value.startswith(("#", _PNG))
  return re.search(r"url\(\s*['\"]?(?!['\"]?#)", value) is None


def _with_prefix(key: str, value: str, name: str) -> str:
  if key == "id":
    return f"{name}-{value}"
  if key == "href" and value.startswith("#"):
    return f"#{name}-{value[1:]}"
  return re.sub(r"url\((['\"]?)#", rf"url(\1#{name}-", value)
