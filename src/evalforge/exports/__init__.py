"""Captures as files that other tools load: one module a format, and the package that records what was written where."""

from evalforge.exports.access import OfUser
from evalforge.exports.jsonl import capture_document, capture_line, json_bytes
from evalforge.exports.package import Destination, Written, write_package

__all__ = ["Destination", "OfUser", "Written", "capture_document", "capture_line", "json_bytes", "write_package"]
