"""What the paid requests of a run may cost together."""

from __future__ import annotations

from llm_distill.errors import BudgetError


class Budget:
    """Money spent, and set aside for requests in flight; together never more than `limit`.

    A request sets its worst case aside before it is sent and settles what it cost. Amounts are in
    the currency of the engines' `price`.
    """

    def __init__(self, limit: float | None) -> None:
        """limit: None counts what is spent and refuses nothing."""
        self.limit = limit
        self.spent = 0.0
        self._reserved = 0.0

    def reserve(self, amount: float) -> None:
        """Set `amount` aside.

        Raises:
            BudgetError: with it, what is spent and set aside would pass the limit.
        """
        if self.limit is not None and self.spent + self._reserved + amount > self.limit:
            raise BudgetError(
                f"--max-cost: {self.spent:.4g} of {self.limit:.4g} is spent, and the next request "
                f"could cost {amount:.4g}"
            )
        self._reserved += amount

    def settle(self, reserved: float, actual: float) -> None:
        """Give back what was set aside for a request, and note what it cost."""
        self._reserved = max(0.0, self._reserved - reserved)
        self.spent += actual
