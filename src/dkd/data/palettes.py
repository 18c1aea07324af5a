"""Colours by label value, for masks that people look at."""

import colorsys
from collections.abc import Iterable

Colour = tuple[int, int, int]

MaskColours = tuple[tuple[Colour, int], ...]
"""Colours of a mask and the label values that they stand for, where masks are in colours; empty
where they are label values."""


def voc_colour(value: int) -> Colour:
    """VOC's colour of a label value (0..255), by the rule of its development kit.

    Bit ``3 j`` of the value (then ``3 j + 1``, ``3 j + 2``) becomes bit ``7 - j`` of red (green,
    blue): neighbouring values get colours far apart.
    """
    red = green = blue = 0
    for j in range(8):
        red |= (value >> (3 * j) & 1) << (7 - j)
        green |= (value >> (3 * j + 1) & 1) << (7 - j)
        blue |= (value >> (3 * j + 2) & 1) << (7 - j)
    return red, green, blue


def distinct_colours(values: Iterable[int], taken: Iterable[Colour] = ()) -> dict[int, Colour]:
    """A colour for every label value, all different and none black (the background's).

    Hues go round the circle by the golden ratio, so that any run of values is spread out;
    saturation and brightness alternate.

    Args:
        values: label values.
        taken: colours that are in use already.
    """
    used = {(0, 0, 0), (255, 255, 255), *taken}
    colours: dict[int, Colour] = {}
    turn = 0
    for value in sorted(values):
        while True:
            hue = turn * 0.6180339887498949 % 1.0
            saturation = (0.85, 0.55, 0.70)[turn % 3]
            brightness = (0.90, 0.95, 0.65)[turn // 3 % 3]
            turn += 1
            red, green, blue = colorsys.hsv_to_rgb(hue, saturation, brightness)
            colour = (round(red * 255), round(green * 255), round(blue * 255))
            if colour not in used:
                break
        used.add(colour)
        colours[value] = colour
    return colours
