"""The only way from a raw span to something that may be stored."""

from evalforge.core.privacy.identity import KeyRing, safe_span_id, safe_trace_id, user_id_in
from evalforge.core.privacy.modes import TextMode, TextPolicy
from evalforge.core.privacy.neighbours import ALONE, Neighbours, Trace, TraceContext
from evalforge.core.privacy.sanitize import SANITIZER_VERSION, Sanitizer
from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.privacy.structure import structure_of

__all__ = [
    "ALONE",
    "SANITIZER_VERSION",
    "KeyRing",
    "Neighbours",
    "SanitizedSpan",
    "Sanitizer",
    "TextMode",
    "TextPolicy",
    "Trace",
    "TraceContext",
    "safe_span_id",
    "safe_trace_id",
    "structure_of",
    "user_id_in",
]
