"""Numbers as a reader wants them: units that fit, real minus signs, digits that mean something."""

import math

from quantale.report.model import Estimate

MINUS = "\u2212"
TIMES = "\u00d7"
SPACE = "\u00a0"
"""Between a number and its unit: does not break."""
_BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def size(count: float) -> str:
    """Return bytes in the decimal unit that leaves one to three digits: "1.02 MB"."""
    for factor, unit in _BYTE_UNITS:
        if count >= factor * 0.9995:
            return f"{significant(count / factor, 3)}{SPACE}{unit}"
    return f"{count:.0f}{SPACE}bytes"


def round_size(count: float) -> str:
    """Return bytes for an axis: "1 MB", "1.5 MB", "500 kB"."""
    number, unit = size(count).split(SPACE, 1)
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{SPACE}{unit}"


def significant(value: float, digits: int = 3) -> str:
    """Return the value with so many significant digits and no exponent: "0.00412", "1,230"."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    places = max(0, digits - 1 - exponent)
    text = f"{abs(value):,.{places}f}"
    return (MINUS if value < 0 else "") + text


def signed(value: float, places: int) -> str:
    """Return the value with its sign, a real minus, and no sign for a rounded zero."""
    text = f"{abs(value):.{places}f}"
    if float(text) == 0.0:
        return text
    return ("+" if value > 0 else MINUS) + text


def interval(estimate: Estimate, places: int, *, sign: bool = False) -> str:
    """Return "1.041 to 1.063", or nothing without an interval."""
    if not estimate.has_interval:
        return ""
    low, high = estimate.ends
    if sign:
        return f"{signed(low, places)} to {signed(high, places)}"
    return f"{low:.{places}f} to {high:.{places}f}"


def places_for(estimate: Estimate, least: int = 2, most: int = 5) -> int:
    """Return how many decimals show two digits of the interval's width."""
    low, high = estimate.ends
    width = high - low
    if width <= 0 or not math.isfinite(width):
        return min(most, least + 1)
    return min(most, max(least, 1 - math.floor(math.log10(width))))


def percent(share: float, places: int = 1) -> str:
    """Return 0.973 as "97.3 %", with a space that does not break."""
    return f"{share * 100:.{places}f}{SPACE}%"


def share(value: float, digits: int = 2) -> str:
    """Return 0.0412 as "4.1 %", with so many significant digits and no trailing zeros."""
    text = significant(value * 100, digits)
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{SPACE}%"


def ratio(larger: float, smaller: float) -> str:
    """Return "6.3×"."""
    if smaller <= 0:
        return "\u2013"
    return f"{significant(larger / smaller, 2 if larger < smaller * 9.95 else 3)}{TIMES}"


def milliseconds(value: float) -> str:
    """Return "2.10 ms" with three significant digits."""
    return f"{significant(value, 3)}{SPACE}ms"


def seconds(value: float) -> str:
    """Return a duration in seconds, minutes or hours, whichever leaves few digits: "2.5 h"."""
    for factor, unit in ((3600, "h"), (60, "min")):
        if value >= 2 * factor:
            return f"{significant(value / factor, 3)}{SPACE}{unit}"
    return f"{significant(value, 3)}{SPACE}s"


def count(number: int) -> str:
    """Return an integer with thousands separated."""
    return f"{number:,}"


def in_words(number: int) -> str:
    """Return small counts as words, as prose does."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if 0 <= number < len(words) else count(number)


def listed(names: list[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
