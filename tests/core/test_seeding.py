import random

import numpy as np
import pytest
import torch

from lit_faces.core.seeding import capture_rng, derive_seed, generator_for, restore_rng


def draws() -> tuple:
    return random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(())), random.gauss(0, 1)


def test_derived_seed_is_pinned():
    assert derive_seed(0) == 3582888934675442504
    assert derive_seed(7, 1, "flip") == derive_seed(np.int64(7), np.int64(1), "flip")


def test_different_arguments_give_different_seeds():
    arguments = [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 23), (12, 3), (1, "23"), (0, "a"), (0, "b"), (0, 0, 0), (-1,)]
    seeds = {derive_seed(*a) for a in arguments}
    assert len(seeds) == len(arguments)
    assert all(0 <= seed < 2**63 for seed in seeds)
    low_words = {derive_seed(0, index) % 2**32 for index in range(2000)}
    assert len(low_words) == 2000, "torch's CPU generator looks at these 32 bits only"


def test_item_k_is_the_same_in_any_order():
    first = [torch.rand(3, generator=generator_for(5, k)) for k in range(4)]
    again = [torch.rand(3, generator=generator_for(5, k)) for k in reversed(range(4))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again)))
    assert not torch.equal(first[0], first[1])


def test_generators_leave_the_global_one_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    torch.rand(10, generator=generator_for(1))
    assert torch.equal(torch.rand(2), expected)


def test_restored_state_repeats_every_generator(tmp_path):
    random.gauss(0, 1)  # leaves a spare normal number behind
    np.random.randn()
    state = capture_rng()
    torch.save(state, tmp_path / "rng.pt")
    expected = draws()
    assert draws() != expected
    restore_rng(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draws() == expected


def test_a_foreign_state_is_refused_by_name():
    with pytest.raises(ValueError, match="'numpy' is missing"):
        restore_rng({"python": [], "torch": torch.zeros(1), "cuda": []})
