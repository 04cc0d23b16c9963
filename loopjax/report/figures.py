"""SVG files made fit to stand inside a page: ids of their own, nothing that runs, nothing that is fetched."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_DROPPED = {"metadata", "script", "style", "foreignObject", "image", "a", "animate", "set", "iframe"}
_STYLE = "stroke-linejoin: round; stroke-linecap: butt"  # what the style element of matplotlib's SVG says
_SMALLEST, _LARGEST = 1.35, 1.75  # pixels per unit: text of 7 units is then 9.5 to 12 pixels high


def inline(text: str, name: str, label: str) -> str:
  """An SVG document as an `<svg>` element for HTML.

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
  box = root.get("viewBox", "").split()
  if root.tag != f"{_SVG}svg" or len(box) != 4 or not re.fullmatch(r"\d+(\.\d*)?", box[2]):
    raise ValueError("is not SVG with a viewBox")
  clean = _cleaned(root, name)
  least, most = (round(scale * float(box[2])) for scale in (_SMALLEST, _LARGEST))
  style = f"{_STYLE}; min-width: {least}px; width: {most}px"
  attributes = {"viewBox": " ".join(box), "role": "img", "aria-label": label, "style": style}
  clean.attrib.clear()
  clean.attrib.update(attributes)
  return ElementTree.tostring(clean, encoding="unicode", short_empty_elements=False)


def _cleaned(element: ElementTree.Element, name: str) -> ElementTree.Element:
  """A copy without namespaces, the way HTML writes SVG."""
  copy = ElementTree.Element(element.tag.removeprefix(_SVG))
  copy.text, copy.tail = element.text, element.tail
  for full_key, value in element.attrib.items():
    key = "href" if full_key == f"{_XLINK}href" else full_key
    if _is_allowed(key, value):
      copy.set(key, _with_prefix(key, value, name))
  for child in element:
    if isinstance(child.tag, str) and child.tag.startswith(_SVG) and child.tag.removeprefix(_SVG) not in _DROPPED:
      copy.append(_cleaned(child, name))
  return copy


def _is_allowed(key: str, value: str) -> bool:
  if key.startswith(("{", "on")):
    return False
  if key == "href":
    return value.startswith("#")
  return re.search(r"url\(\s*['\"]?(?!['\"]?#)", value) is None


def _with_prefix(key: str, value: str, name: str) -> str:
  if key == "id":
    return f"{name}-{value}"
  if key == "href":
    return f"#{name}-{value[1:]}"
  return re.sub(r"url\((['\"]?)#", rf"url(\1#{name}-", value)
