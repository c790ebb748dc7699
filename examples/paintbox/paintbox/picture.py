"""Shapes in, SVG out."""

from __future__ import annotations

import re
from typing import NamedTuple

WIDTH, HEIGHT = 200, 120
_SHAPE = re.compile(
    r"(?:(?P<layer>[a-z]+)/)?(?P<kind>circle|rect|line):(?P<numbers>\d+(?:,\d+)*):(?P<colour>[a-z]+|#[0-9a-f]{6})"
)
_NAMES = {"circle": ("cx", "cy", "r"), "rect": ("x", "y", "width", "height"), "line": ("x1", "y1", "x2", "y2")}


class Shape(NamedTuple):
    """One shape: ``[LAYER/]KIND:NUMBERS:COLOUR``, for example ``sky/circle:150,40,20:gold``."""

    layer: str
    kind: str
    numbers: tuple[int, ...]
    colour: str

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Raises: ValueError if ``text`` is no shape."""
        match = _SHAPE.fullmatch(text)
        numbers = tuple(map(int, match["numbers"].split(","))) if match else ()
        if match is None or len(numbers) != len(_NAMES[match["kind"]]):
            raise ValueError(f"{text!r} is not a shape such as circle:150,40,20:gold or sky/rect:0,0,200,120:skyblue")
        return cls(match["layer"] or "picture", match["kind"], numbers, match["colour"])

    def svg(self) -> str:
        paint = "stroke" if self.kind == "line" else "fill"
        where = " ".join(f'{name}="{number}"' for name, number in zip(_NAMES[self.kind], self.numbers, strict=True))
        return f'    <{self.kind} {where} {paint}="{self.colour}"/>'


def layers_of(shapes: list[Shape]) -> list[str]:
    """The layers' names in the order in which they first appear, which is the order they lie in."""
    return list(dict.fromkeys(shape.layer for shape in shapes))


def draw(shapes: list[Shape]) -> str:
    """The picture as SVG, one group for each layer."""
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">']
    for layer in layers_of(shapes):
        lines += [f'  <g id="{layer}">', *(shape.svg() for shape in shapes if shape.layer == layer), "  </g>"]
    return "\n".join([*lines, "</svg>", ""])
