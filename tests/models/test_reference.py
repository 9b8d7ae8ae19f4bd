"""Faces read beside other pictures of the person."""

import torch

from lit_faces.core.facs import NUM_AUS
from lit_faces.models.reference import DifferenceHead, ReferenceHead, References, draw_references


def trained_head() -> ReferenceHead:
    torch.manual_seed(0)
    head = ReferenceHead(24, 5)
    torch.nn.init.normal_(head.shift.weight)
    torch.nn.init.normal_(head.shift.bias)
    return head


def some(people: int = 3, looks: int = 2) -> tuple[torch.Tensor, References]:
    torch.manual_seed(1)
    return torch.randn(people, 24), References(torch.randn(people, looks, 24), 5 * torch.rand(people, looks, NUM_AUS))


def test_a_new_head_changes_nothing() -> None:
    assert ReferenceHead(24, 5)(*some()).eq(0).all()


def test_without_a_reference_the_shift_is_exactly_zero() -> None:
    faces, references = some()
    references.there = torch.tensor([[True, True], [False, False], [True, False]])
    shift = trained_head()(faces, references)
    assert shift[1].eq(0).all() and shift[[0, 2]].ne(0).any(1).all()


def test_places_without_a_reference_do_not_count_and_order_does_not_matter() -> None:
    head, (faces, references) = trained_head(), some()
    alone = head(faces, References(references.features[:, :1], references.intensity[:, :1]))
    references.there = torch.tensor([[True, False]] * 3)
    assert torch.allclose(head(faces, references), alone, atol=1e-6)
    turned = References(references.features.flip(1), references.intensity.flip(1))
    assert torch.allclose(head(faces, turned), head(faces, References(references.features, references.intensity)))


def test_one_persons_references_serve_many_faces() -> None:
    head, (faces, references) = trained_head(), some()
    mine = References(references.features[0], references.intensity[0])
    assert torch.allclose(head(faces, mine.expand(3))[0], head(faces, references)[0], atol=1e-6)


def test_references_are_other_rows_of_the_same_person_and_rest_more_often() -> None:
    subjects = ["a"] * 6 + ["b"] * 2 + ["c", "", ""]
    intensity = torch.ones(len(subjects), NUM_AUS)
    intensity[0] = 0.0
    generator = torch.Generator().manual_seed(0)
    chosen = []
    for _ in range(50):
        rows, there = draw_references(subjects, intensity, generator)
        for row, (others, stands) in enumerate(zip(rows.tolist(), there.tolist())):
            picked = [other for other, is_there in zip(others, stands) if is_there]
            assert row not in picked and all(subjects[other] == subjects[row] for other in picked)
            chosen += [other for other in picked if row == 5]
        assert there[:6].any(1).all() and there[6:8, 0].logical_or(there[6:8, 1]).all() and not there[8:].any()
    assert chosen.count(0) > 1.5 * max(chosen.count(other) for other in range(1, 5))


def test_what_only_a_comparison_shows_is_learnt() -> None:
    """A trait looks just like the AU: its level shows only as the difference from another picture of the person."""
    torch.manual_seed(0)
    head = ReferenceHead(24, 1)
    direction = torch.randn(24)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)

    def people(count: int) -> tuple[torch.Tensor, References, torch.Tensor]:
        noise, trait = torch.randn(2, count, 24), torch.randn(count, 1)
        level, shown = torch.randn(count, 1), torch.rand(count, 1)
        there = noise[1] + (trait + shown) * direction
        aus = (5 * shown).expand(-1, NUM_AUS)
        return noise[0] + (trait + level) * direction, References(there[:, None], aus[:, None]), level

    for _ in range(150):
        faces, references, level = people(128)
        loss = (head(faces, references) - level).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    faces, references, level = people(2000)
    assert (head(faces, references) - level).square().mean() < 0.35  # alone, half of the variance is the trait's


def test_the_published_baseline_reads_the_difference_alone() -> None:
    torch.manual_seed(0)
    head, (faces, references) = DifferenceHead(24, 5), some()
    torch.nn.init.normal_(head.read.weight)
    moved = References(references.features + 3.0, references.intensity)
    assert torch.allclose(head(faces + 3.0, moved), head(faces, references), atol=1e-4)
    assert not torch.allclose(head(faces + 3.0, references), head(faces, references), atol=1e-2)
