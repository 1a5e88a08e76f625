"""What is replaced inside kept text: people, places, identifiers and secrets go, the rest stays readable.

The scrubber itself is `text.scrubber.Scrubber`; it needs the echoes, which need what is named here.
"""

from evalforge.core.privacy.text.findings import Finding, TextKind, is_text_mark

__all__ = ["Finding", "TextKind", "is_text_mark"]
