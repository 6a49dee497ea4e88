"""How an attempt at a request fails: another may not, or none will be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_distill.engines.openai.answers import Refusal
    from llm_distill.engines.openai.exchange import Exchange


class AttemptError(Exception):
    """An attempt that failed in a way that another may not.

    Attributes:
        retry_after: seconds that the server asks to wait.
        is_lost: it was sent, but no readable answer came; it may have been charged.
        is_malformed: what came was not JSON. A server that does so twice will do it again.
        is_limit: the server is asked too often. It did not try, so this is not an attempt.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after: float | None = None,
        is_lost: bool = False,
        is_malformed: bool = False,
        is_limit: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.is_lost = is_lost
        self.is_malformed = is_malformed
        self.is_limit = is_limit


class UselessError(Exception):
    """No request will be answered here: `refusal` by the server, or it cannot be reached.

    todo: what to do, where it is known already.
    """

    def __init__(
        self, reason: str, refusal: Refusal | None, exchange: Exchange[Any], todo: str = ""
    ) -> None:
        super().__init__(reason)
        self.refusal = refusal
        self.exchange = exchange
        self.todo = todo
