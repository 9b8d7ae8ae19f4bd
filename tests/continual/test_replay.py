"""Replay memories: who stays, how fair, and whether a saved one goes on as if nothing had happened."""

from __future__ import annotations

import io

import pytest
import torch
from scipy.stats import chisquare

from lit_faces.continual.replay import FaceMemory, ReplayMemory, face_cells
from lit_faces.core.facs import AU_INDEX, NUM_AUS
from lit_faces.core.sample import FaceBatch

NAN = float("nan")


def numbers(first: int, count: int) -> dict[str, torch.Tensor]:
    return {"x": torch.arange(first, first + count)}


def faces(count: int, subject: str = "anna", size: int = 4, first: int = 0) -> FaceBatch:
    draws = torch.Generator().manual_seed(first + count)
    au = 5 * torch.rand(count, NUM_AUS, generator=draws) * (torch.rand(count, NUM_AUS, generator=draws) < 0.15)
    return FaceBatch(
        image=torch.randint(0, 256, (count, 3, size, size), generator=draws, dtype=torch.uint8),
        landmarks=torch.zeros(count, 68, 2),
        au_intensity=au,
        au_occurrence=(au >= 2).float(),
        emotion=torch.full((count,), -1),
        pose=torch.zeros(count, 3),
        subject=[subject] * count,
        source=["test"] * count,
        frame=torch.arange(first, first + count),
    )


@pytest.mark.parametrize("policy", ["reservoir", "balanced"])
def test_every_row_of_a_stream_is_kept_with_the_same_probability(policy: str) -> None:
    streams, length, capacity = 1500, 60, 12
    kept = torch.zeros(length)
    for seed in range(streams):
        memory = ReplayMemory(capacity, policy, seed)
        for start in (0, 7, 30):  # in batches of any size
            end = {0: 7, 7: 30, 30: length}[start]
            memory.add(numbers(start, end - start), [["one"]] * (end - start))
        kept[memory.rows()["x"]] += 1
    assert kept.sum() == streams * capacity
    assert chisquare(kept.numpy()).pvalue > 0.001


def test_within_a_cell_of_a_balanced_memory_every_row_has_the_same_chance() -> None:
    kept = torch.zeros(40)
    for seed in range(1500):
        memory = ReplayMemory(12, "balanced", seed)
        memory.add(numbers(0, 40), [["common"]] * 40)
        memory.add(numbers(100, 6), [["rare"]] * 6)
        rows = memory.rows()["x"]
        assert (rows >= 100).sum() == 6
        kept[rows[rows < 100]] += 1
    assert chisquare(kept.numpy()).pvalue > 0.001


@pytest.mark.parametrize("seed", range(30))
def test_cells_differ_by_one_at_most_where_supply_allows(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    cells = 2 + seed % 9
    share = torch.rand(cells, generator=draws) ** 4 + 0.01
    names = torch.multinomial(share, 400, True, generator=draws).tolist()
    memory = ReplayMemory(40 + seed, "balanced", seed)
    memory.add(numbers(0, 400), [[str(name)] for name in names])
    assert len(memory) == 40 + seed
    counts, supply = memory.counts, memory.supply
    level = max(counts.values())
    for name, count in counts.items():
        assert count == supply[name] or level - count <= 1, (counts, supply)


def test_faces_of_several_aus_are_kept_once_and_fill_the_rarest_cell() -> None:
    memory = FaceMemory(30, "balanced", 0)
    common = faces(200)
    common.au_intensity[:] = 0
    common.au_intensity[:, AU_INDEX[12]] = 3.0
    rare = faces(10, first=1000)
    rare.au_intensity[:] = 0
    rare.au_intensity[:, AU_INDEX[12]] = 3.0
    rare.au_intensity[:, AU_INDEX[17]] = 5.0  # never without AU12
    memory.add(common)
    memory.add(rare)
    assert memory.counts == {"anna|AU12|3": 20, "anna|AU17|5": 10}
    assert len(memory.faces().frame.unique()) == 30


def test_cells_of_what_is_not_coded() -> None:
    batch = faces(4)
    batch.au_intensity[:] = NAN
    batch.au_occurrence[:] = NAN
    batch.au_intensity[0, AU_INDEX[6]] = 2.4
    batch.au_intensity[1, AU_INDEX[6]] = 0.0
    batch.au_occurrence[2, AU_INDEX[17]] = 1.0
    assert face_cells(batch) == [["anna|AU06|2"], ["anna|neutral"], ["anna|AU17|on"], ["anna|uncoded"]]


def test_with_more_cells_than_places_early_cells_are_not_driven_out() -> None:
    kept = torch.zeros(100)
    for seed in range(400):
        memory = ReplayMemory(20, "balanced", seed)
        memory.add(numbers(0, 100), [[str(n)] for n in range(100)])
        kept[memory.rows()["x"]] += 1
    assert chisquare(kept.numpy()).pvalue > 0.001


def test_a_cell_that_was_given_up_does_not_swallow_faces() -> None:
    memory = ReplayMemory(20, "balanced", 0)
    memory.add(numbers(0, 100), [[str(n)] for n in range(100)])
    counts = memory.counts
    dead = next(name for name, count in counts.items() if not count)
    live = next(name for name, count in counts.items() if count)
    memory.add(numbers(1000, 500), [[dead, live]] * 500)
    assert int((memory.rows()["x"] >= 1000).sum()) == 1  # it went to the live one and took its place


def test_capacity_in_bytes_holds() -> None:
    memory = FaceMemory("64KB", "balanced", 0)
    memory.add(faces(300, size=16))
    assert memory.nbytes <= 64 * 1024 < memory.nbytes + memory.row_bytes
    with pytest.raises(ValueError, match="a row takes"):
        FaceMemory("1KB").add(faces(1, size=64))


@pytest.mark.parametrize("capacity", [0, -3, "many", "0MB", 2.5, True])
def test_capacities_that_cannot_be(capacity: object) -> None:
    with pytest.raises(ValueError, match="capacity"):
        ReplayMemory(capacity)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["reservoir", "balanced"])
def test_a_saved_memory_goes_on_bit_for_bit(policy: str) -> None:
    one = FaceMemory(25, policy, 3)
    one.add(faces(60))
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    two = FaceMemory(1)
    two.load_state_dict(torch.load(file, weights_only=True))
    for start in range(3):
        for memory in (one, two):
            memory.add(faces(20, "ben", first=100 * start))
    first, second = one.faces(), two.faces()
    assert one.counts == two.counts
    assert first.subject == second.subject
    for name in ("image", "au_intensity", "frame"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_merging_reservoirs_is_fair_to_both_streams() -> None:
    kept = torch.zeros(90)
    for seed in range(1500):
        one, two = ReplayMemory(10, "reservoir", 2 * seed), ReplayMemory(10, "reservoir", 2 * seed + 1)
        one.add(numbers(0, 30))
        two.add(numbers(30, 60))
        one.merge(two)
        assert len(one) == 10
        assert one.seen == 90
        kept[one.rows()["x"]] += 1
    assert chisquare(kept.numpy()).pvalue > 0.001


def test_merged_faces_keep_their_names_and_stay_balanced() -> None:
    one, two = FaceMemory(24, seed=0), FaceMemory(24, seed=1)
    one.add(faces(50, "anna"), [["a"]] * 50)
    two.add(faces(50, "ben"), [["b"]] * 50)
    two.add(faces(3, "carl"), [["c"]] * 3)
    one.merge(two)
    assert one.subjects == {"anna": 11, "ben": 10, "carl": 3} or one.subjects == {"anna": 10, "ben": 11, "carl": 3}
    assert one.supply == {"a": 50, "b": 50, "c": 3}


@pytest.mark.parametrize("policy", ["reservoir", "balanced"])
def test_a_person_can_be_forgotten(policy: str) -> None:
    memory = FaceMemory(40, policy, 0)
    memory.add(faces(20, "anna"))
    memory.add(faces(20, "ben"))
    assert memory.forget("anna") == 20
    assert memory.forget("nobody") == 0
    assert not [name for name in memory.counts if name.startswith("anna")]
    assert memory.subjects == {"ben": 20}
    assert "anna" not in str(memory.tensors()[1])
    memory.add(faces(60, "carl"))
    assert len(memory) == 40
    memory.forget("ben")
    memory.forget("carl")
    assert len(memory) == 0


def test_samples_are_distinct_until_the_memory_is_too_small() -> None:
    memory, draws = FaceMemory(30), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="empty"):
        memory.sample(3, draws)
    memory.add(faces(30))
    assert len(memory.sample(30, draws).frame.unique()) == 30
    assert len(memory.sample(70, draws)) == 70


def test_rows_of_another_kind_are_refused() -> None:
    memory = FaceMemory(10)
    memory.add(faces(3, size=4))
    with pytest.raises(ValueError, match="row 'image'"):
        memory.add(faces(3, size=8))
    with pytest.raises(ValueError, match="one list a row"):
        ReplayMemory(4).add(numbers(0, 3), [["a"]])
    with pytest.raises(ValueError, match="policy"):
        ReplayMemory(4, "fair")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="state of a replay memory: cells is missing"):
        ReplayMemory.from_tensors({}, {"capacity": 3, "policy": "balanced", "seed": 0})
