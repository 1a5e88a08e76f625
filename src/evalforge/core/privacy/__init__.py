"""The only way from a raw span to something that may be stored."""

from evalforge.core.privacy.sanitized import SanitizedSpan

__all__ = ["SanitizedSpan"]
