"""Prepares matplotlib's SVG for being part of a page.

Its colors become the page's, so that it is light on dark where the page is; its text takes the
page's font; its ids get a prefix, because a page has many pictures; and `style` is removed, because
the page's Content-Security-Policy would refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"
FONT_SIZE = re.compile(r"(\d+(?:\.\d+)?)px")
URL = re.compile(r"url\(#([^)]+)\)")
DROPPED = {f"{SVG}metadata", f"{SVG}style", f"{SVG}title"}


def for_page(picture: bytes, prefix: str, label: str, colours: Mapping[str, str]) -> str:
    """The `<svg>` element of a file that matplotlib wrote.

    Args:
        picture: The file.
        prefix: Put before each id.
        label: For screen readers.
        colours: The file's colors (`#0a0b0c`) to their replacements, such as `currentColor`.
    """
    root = ElementTree.fromstring(picture)
    _clean(root, prefix, colours)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": label})
    ElementTree.register_namespace("", SVG[1:-1])
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, prefix: str, colours: Mapping[str, str]) -> None:
    for child in list(element):
        if child.tag in DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix, colours)
    attributes = dict(element.attrib)
    element.attrib.clear()
    for declaration in attributes.pop("style", "").split(";"):
        name, _, value = declaration.partition(":")
        attributes.update(_as_attribute(name.strip(), value.strip()))
    for name, value in attributes.items():
        if name == "id":
            value = prefix + value
        elif name in ("href", f"{XLINK}href"):
            name, value = "href", f"#{prefix}{value.removeprefix('#')}"
        element.set(name, URL.sub(rf"url(#{prefix}\1)", colours.get(value, value)))


def _as_attribute(name: str, value: str) -> dict[str, str]:
    """A CSS declaration as the equivalent SVG attribute; of fonts only the size is kept."""
    if name in ("font", "font-size"):
        size = FONT_SIZE.search(value)
        return {"font-size": size[1]} if size else {}
    if not name or name.startswith("font") or name == "vector-effect":
        return {}
    return {name: value}
