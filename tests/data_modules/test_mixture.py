"""The order of a mixture: exact shares, nobody twice before all, equal on every number of ranks."""

import collections

import numpy as np
import pytest

from data_modules.mixture import MixtureBatches, Sequential, shares


def drawn(sampler: MixtureBatches, epoch: int = 0) -> list[tuple[int, int, int]]:
    sampler.set_epoch(epoch)
    return [draw for batch in sampler for draw in batch]


def test_without_weights_every_face_comes_once_an_epoch() -> None:
    for epoch in range(3):
        draws = drawn(MixtureBatches([7, 20, 1], batch_size=4), epoch)
        assert sorted(draws) == [(k, row, epoch) for k, n in enumerate((7, 20, 1)) for row in range(n)]
    assert drawn(MixtureBatches([7, 20], batch_size=4)) != drawn(MixtureBatches([7, 20], batch_size=4), 1)
    assert drawn(MixtureBatches([7, 20], seed=1)) != drawn(MixtureBatches([7, 20], seed=2))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("length", [24, 25, 26, 47])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_ranks_share_an_epoch_without_loss_or_repetition(world: int, length: int, batch_size: int) -> None:
    ranks = [MixtureBatches([length], batch_size=batch_size, rank=rank, world=world) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1, "equal numbers of steps, or DDP would wait for ever"
    batches = [list(rank) for rank in ranks]
    assert all(len(own) == len(ranks[0]) and all(own) for own in batches), "no empty batch"
    assert sorted(row for own in batches for batch in own for _, row, _ in batch) == list(range(length))
    sizes = {len(batch) for own in batches for batch in own}
    assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch_size + 1


def test_the_stream_is_the_same_for_any_number_of_ranks() -> None:
    alone = MixtureBatches([30, 10], [0.5, 0.5], batch_size=8, seed=5)
    pair = [MixtureBatches([30, 10], [0.5, 0.5], batch_size=4, seed=5, rank=rank, world=2) for rank in range(2)]
    for whole, first, second in zip(alone, *pair, strict=True):
        assert sorted(whole) == sorted(first + second)


def test_drop_last_gives_equal_batches_and_carries_the_rest_over() -> None:
    sampler = MixtureBatches([22], batch_size=4, drop_last=True)
    assert {len(batch) for batch in sampler} == {4} and len(sampler) == 5
    two = drawn(sampler) + drawn(sampler, 1)
    assert sorted(row for _, row, cycle in two if cycle == 0) == list(range(22)), "the two left over come next"
    assert collections.Counter(cycle for _, _, cycle in two) == {0: 22, 1: 18}


def test_shares_are_exact_and_small_sources_repeat_evenly() -> None:
    sampler = MixtureBatches([1000, 30, 500], [0.4, 0.4, 0.2], batch_size=10, length=200)
    assert sampler.counts == [80, 80, 40]
    seen = collections.Counter((k, row) for epoch in range(5) for k, row, _ in drawn(sampler, epoch))
    assert sum(count for (k, _), count in seen.items() if k == 1) == 400
    of_small = [seen[1, row] for row in range(30)]
    assert max(of_small) - min(of_small) <= 1, "400 draws of 30 faces: 13 or 14 each"
    assert max(seen[0, row] for row in range(1000)) == 1, "400 draws of 1000: none twice"


def test_sources_are_mixed_within_batches() -> None:
    """Chi-square of the place of one source in the epoch: 4 bins, 3 degrees of freedom, 16.3 at 0.001."""
    sampler = MixtureBatches([4000, 4000], batch_size=16)
    places = [i for i, (k, _, _) in enumerate(drawn(sampler)) if k == 0]
    counts = np.histogram(places, 4, (0, 8000))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.3


def test_evaluation_sees_everything_once_in_order() -> None:
    ranks = [[draw for batch in Sequential([5, 4], 2, rank, 2) for draw in batch] for rank in range(2)]
    assert sorted(ranks[0] + ranks[1]) == [(0, i, 0) for i in range(5)] + [(1, i, 0) for i in range(4)]
    assert len(Sequential([5, 4], 2)) == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sizes": [3, 0], "weights": [0.5, 0.5]}, "source 1 has a weight but no face"),
        ({"sizes": [3], "weights": [0.0]}, "weights"),
        ({"sizes": [3], "weights": [float("nan")]}, "weights"),
        ({"sizes": [3], "rank": 2, "world": 2}, "rank"),
        ({"sizes": [3], "batch_size": 8, "drop_last": True}, "too short"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MixtureBatches(**arguments)
    with pytest.raises(ValueError, match="weights"):
        shares([-1.0, 2.0], 5)
