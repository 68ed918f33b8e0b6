"""Checks of single fields by their CDDL: each takes a value and where it stands, and raises KVC-501."""

import math
import struct

from .envelope import is_text
from .errors import require


def is_uint(x):
    return type(x) is int and x >= 0


def field(condition, where):
    require(condition, 501, where)


def uint(x, where):
    field(is_uint(x), where)


def u32(x, where):
    field(is_uint(x) and x < 1 << 32, where)


def flag(x, where):
    field(is_uint(x) and x <= 1, where)


def one(x, where):
    field(is_uint(x) and x == 1, where)


def boolean(x, where):
    field(type(x) is bool, where)


def i64(x, where):
    field(type(x) is int and -(1 << 63) <= x < 1 << 63, where)


def sized(n):
    return lambda x, where: field(type(x) is bytes and len(x) == n, where)


digest, any64 = sized(32), sized(8)


def f64(x, where):
    any64(x, where)
    field(math.isfinite(struct.unpack("<d", x)[0]), f"{where} is not finite")


def string(x, where):
    field(is_text(x, 0, 1024), where)


def array(x, where, least=0):
    field(type(x) is list and len(x) >= least, where)


def list_of(check, least=0):
    def checked(x, where):
        array(x, where, least)
        for i, element in enumerate(x):
            check(element, f"{where}[{i}]")

    return checked


def tuple_of(*checks):
    def checked(x, where):
        array(x, where)
        field(len(x) == len(checks), where)
        for i, (check, element) in enumerate(zip(checks, x)):
            check(element, f"{where}[{i}]")

    return checked


def map_of(required, optional=None):
    known = required | (optional or {})

    def checked(x, where):
        field(type(x) is dict, where)
        for key, value in x.items():
            field(key in known, f"{where}.{key} is unknown")
            known[key](value, f"{where}.{key}")
        for key in required:
            field(key in x, f"{where}.{key} is missing")

    return checked


def ascending(values):
    return all(a < b for a, b in zip(values, values[1:]))


def ascending_numbers(check, least=0):
    def checked(x, where):
        list_of(check, least)(x, where)
        field(ascending(x), f"{where} is not ascending")

    return checked


def named(check):
    def checked(x, where):
        list_of(tuple_of(string, check))(x, where)
        field(ascending([pair[0].encode() for pair in x]), f"{where} is not ascending")

    return checked


def limited(check, most):
    """A list whose length over the limit is KVC-503 before its elements are looked into."""

    def checked(x, where):
        require(type(x) is not list or len(x) <= most, 503, where)
        check(x, where)

    return checked
