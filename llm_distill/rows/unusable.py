"""A row that cannot be used, as data: it is left out and counted, and the run goes on."""

from __future__ import annotations


class UnusableRowError(Exception):
    """A row that cannot be trained on. The message is the reason that it is counted under."""


class AlteredRowError(UnusableRowError):
    """What would be trained is not what the row says: a template or a tokenizer changes it."""
