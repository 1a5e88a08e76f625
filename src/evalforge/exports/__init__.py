"""Captures as files that other tools load: one module a format, and the package that records what was written where."""

from evalforge.exports.access import OfUser
from evalforge.exports.destinations import Destination
from evalforge.exports.jsonl import capture_document, capture_line, json_bytes
from evalforge.exports.package import Written, write_again, write_package
from evalforge.exports.selecting import FORMAT_NAMES, Shape

__all__ = [
    "FORMAT_NAMES",
    "Destination",
    "OfUser",
    "Shape",
    "Written",
    "capture_document",
    "capture_line",
    "json_bytes",
    "write_again",
    "write_package",
]
