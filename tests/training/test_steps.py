"""However many processes share them, the steps of an epoch have the same rows."""

from __future__ import annotations

import pytest

from llm_distill.training.steps import SharedBatches, Shares, StepRows, WeightedOrder


@pytest.mark.parametrize("n_rows", [1, 2, 7, 8, 11, 16, 23])
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
@pytest.mark.parametrize("together", [False, True])
def test_every_row_is_read_once_and_in_the_step_it_belongs_to(n_rows, processes, together):
    rows = StepRows(8, 2, together)
    shares = Shares(n_rows, rows.on(processes), processes)
    assert shares.steps == -(-n_rows // 16)
    for step in range(shares.steps):
        read = [
            place + 16 * step
            for rank in range(processes)
            for places in shares.own(step, rank)
            for place in places
        ]
        assert sorted(read) == list(range(16 * step, min(16 * step + 16, n_rows)))
        passes = {len(shares.own(step, rank)) for rank in range(processes)}
        assert passes == {shares.passes(step)}


def test_a_process_without_a_row_reads_one_that_does_not_count():
    shares = Shares(9, StepRows(2, 1), 4)
    order = [8, 7, 6, 5, 4, 3, 2, 1, 0]
    batches = [list(SharedBatches(order, shares, rank)) for rank in range(4)]
    assert batches == [[[8, 7], [0]], [[6, 5], [0]], [[4, 3], [0]], [[2, 1], [0]]]
    assert [len(shares.own(1, rank)[0]) for rank in range(4)] == [1, 0, 0, 0]
    assert [len(SharedBatches(order, shares, rank)) for rank in range(4)] == [2] * 4


def test_passes_are_as_few_as_memory_allows():
    assert StepRows(8, 4).on(8) == StepRows(4, 1)
    assert StepRows(8, 4).on(2) == StepRows(8, 2)
    assert StepRows(6, 1).on(2) == StepRows(3, 1)
    assert StepRows(8, 4, together=True).on(8) == StepRows(1, 4, together=True)
    assert StepRows(60, 1).within(16) == StepRows(15, 4)


def test_rows_that_cannot_be_shared_evenly_are_refused():
    assert StepRows(4, 3).processes() == [1, 2, 3, 4, 6, 12]
    assert StepRows(4, 3, together=True).processes() == [1, 2, 4]
    with pytest.raises(ValueError, match="cannot be shared evenly by 8"):
        StepRows(4, 3).on(8)


def test_places_go_on_from_epoch_to_epoch():
    """Of eleven rows, eight a step: two steps an epoch, whoever reads them."""
    for processes in (1, 2):
        shares = Shares(11, StepRows(4, 2).on(processes), processes)
        for step, expected in enumerate(([0, 8], [8, 11], [11, 19], [19, 22])):
            ranks = range(processes)
            read = [p for rank in ranks for places in shares.places(step, rank) for p in places]
            assert sorted(read) == list(range(*expected))


def test_rows_are_drawn_in_proportion_to_their_weights():
    weights = [0.5, 4.0, 1e-300, 2.5, 3.0]
    order, often = WeightedOrder(weights, 7), [0] * 5
    for epoch in range(4000):
        order.set_epoch(epoch)
        drawn = list(order)
        assert len(drawn) == len(order) == 5
        for row in drawn:
            often[row] += 1
    n = 20_000
    for count, weight in zip(often, weights, strict=True):
        share = weight / 10
        assert abs(count - n * share) <= 5 * (n * share * (1 - share)) ** 0.5


def test_an_epochs_draws_depend_on_seed_and_epoch_alone():
    weights = [1.0 + i % 3 for i in range(50)]
    order = WeightedOrder(weights, 7)
    first, again = list(order), list(order)
    assert first == again
    order.set_epoch(3)
    third = list(order)
    assert third != first
    other = WeightedOrder([1000 * weight for weight in weights], 7)  # their ratios matter
    other.set_epoch(3)
    assert list(other) == third
    assert list(WeightedOrder(weights, 8)) != first
    assert list(WeightedOrder([1e308] * 50, 7)) == list(WeightedOrder([1.0] * 50, 7))
