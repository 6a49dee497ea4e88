"""Units that stand after numbers in answers, exactly. Pure.

A library of all units reads too much: `cats` are centi-technical-atmospheres to one. So these are
the ones that word problems and exams use, by their names; any other word is no unit here.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

Dimension = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Unit:
    """dimension: base quantities with exponents, as {(length, 1), (time, -1)}; factor: its size."""

    dimension: Dimension
    factor: Fraction


# base quantity: (size, names); a name of one letter, or with a capital, is read as it is written.
_KNOWN: dict[str, list[tuple[str, str]]] = {
    "length": [
        ("1", "m meter meters metre metres"),
        ("1000", "km kilometer kilometers kilometre kilometres"),
        ("0.01", "cm centimeter centimeters centimetre centimetres"),
        ("0.001", "mm millimeter millimeters millimetre millimetres"),
        ("0.000001", "µm um micrometer micrometers micrometre micrometres"),
        ("0.000000001", "nm nanometer nanometers nanometre nanometres"),
        ("0.0254", "in inch inches"),
        ("0.3048", "ft foot feet"),
        ("0.9144", "yd yard yards"),
        ("1609.344", "mi mile miles"),
    ],
    "mass": [
        ("1", "g gram grams"),
        ("1000", "kg kilogram kilograms kilo kilos"),
        ("0.001", "mg milligram milligrams"),
        ("1000000", "t ton tons tonne tonnes"),
        ("453.59237", "lb lbs pound pounds"),
        ("28.349523125", "oz ounce ounces"),
    ],
    "time": [
        ("1", "s sec secs second seconds"),
        ("0.001", "ms millisecond milliseconds"),
        ("60", "min mins minute minutes"),
        ("3600", "h hr hrs hour hours"),
        ("86400", "day days"),
        ("604800", "week weeks"),
    ],
    "months": [("1", "month months"), ("12", "yr yrs year years")],
    "dollars": [("1", "$ usd dollar dollars buck bucks"), ("0.01", "¢ cent cents")],
    "euros": [("1", "€ eur euro euros")],
    "pounds": [("1", "£ gbp pound pounds"), ("0.01", "pence")],
    "yen": [("1", "¥ yen yuan")],
    "rupees": [("1", "₹ rs rupee rupees")],
    "percent": [("0.01", "% percent")],
    "degrees": [("1", "° deg degree degrees")],
    "radians": [("1", "rad radian radians")],
    "celsius": [("1", "°C celsius")],
    "fahrenheit": [("1", "°F fahrenheit")],
    "kelvin": [("1", "K kelvin")],
    "bytes": [
        ("0.125", "bit bits"),
        ("1", "byte bytes"),
        ("1000", "kB KB kilobyte kilobytes"),
        ("1000000", "MB megabyte megabytes"),
        ("1000000000", "GB gigabyte gigabytes"),
        ("1000000000000", "TB terabyte terabytes"),
    ],
    "energy": [("1", "J joule joules"), ("1000", "kJ"), ("4.184", "cal"), ("4184", "kcal")],
    "power": [("1", "W watt watts"), ("1000", "kW kilowatt kilowatts")],
    "force": [("1", "N newton newtons")],
    "voltage": [("1", "V volt volts")],
    "frequency": [("1", "Hz hertz"), ("1000", "kHz"), ("1000000", "MHz"), ("1000000000", "GHz")],
    "pressure": [("1", "Pa pascal pascals"), ("1000", "kPa")],
    "amount": [("1", "mol mole moles")],
}
_DERIVED = {  # name: exponents of base quantities, size
    "l liter liters litre litres": ({"length": 3}, "0.001"),
    "ml mL milliliter milliliters millilitre millilitres": ({"length": 3}, "0.000001"),
    "mph": ({"length": 1, "time": -1}, "0.44704"),
    "kph": ({"length": 1, "time": -1}, "1/3.6"),
}


def _unit(exponents: dict[str, int], factor: Fraction) -> Unit:
    return Unit(frozenset((k, v) for k, v in exponents.items() if v), factor)


def _by_name() -> dict[str, tuple[Unit, ...]]:
    found: dict[str, tuple[Unit, ...]] = {}
    for quantity, units in _KNOWN.items():
        for size, names in units:
            for name in names.split():
                found[name] = (*found.get(name, ()), _unit({quantity: 1}, Fraction(size)))
    for names, (exponents, size) in _DERIVED.items():
        above, _, below = size.partition("/")
        for name in names.split():
            found[name] = (_unit(exponents, Fraction(above) / Fraction(below or 1)),)
    found["L"] = found["l"]
    return found


_NAMES = _by_name()
_EXPONENT = re.compile(r"(?P<name>[^\d^]+?)\^?\{?(?P<exponent>-?[1-4])?\}?")


def read_unit(text: str) -> tuple[Unit, ...]:
    """The units that a text can stand for, none where it is not one: `pounds` has two.

    >>> read_unit("km/h") == read_unit("kilometers per hour")
    True
    """
    plain = re.sub(r"\s+per\s+", "/", text.strip())
    above, *below = re.split(r"\s*/\s*", plain)
    parts = [(above, 1), *((each, -1) for each in below)]
    found: tuple[Unit, ...] = (_unit({}, Fraction(1)),)
    for part, sign in parts:
        words = re.split(r"[\s·*]+", part.strip())
        power = 1
        for word in words:
            if word.casefold() in ("square", "sq", "cubic", "cu"):
                power = 2 if word.casefold().startswith("sq") else 3
                continue
            units = _named(word, sign * power)
            power = 1
            found = tuple(_times(a, b) for a in found for b in units)
    return found


def _named(word: str, power: int) -> tuple[Unit, ...]:
    match = _EXPONENT.fullmatch(word)
    if match is None:
        return ()
    name, exponent = match["name"], power * int(match["exponent"] or 1)
    known = _NAMES.get(name) or (_NAMES.get(name.casefold()) if len(name) > 1 else None) or ()
    return tuple(
        _unit({k: v * exponent for k, v in unit.dimension}, unit.factor**exponent) for unit in known
    )


def _times(a: Unit, b: Unit) -> Unit:
    exponents = Counter(dict(a.dimension))
    for name, exponent in b.dimension:
        exponents[name] += exponent
    return _unit(dict(exponents), a.factor * b.factor)
