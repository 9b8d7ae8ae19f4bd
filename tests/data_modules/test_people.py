"""People who arrive: nobody is in two groups, and what is learnt from is not what is tested on."""

import pytest
import torch

from data_modules.people import LabelledPeople, RenderedPeople
from lit_faces.rendering.renderer import FaceRenderer
from lit_faces.rendering.sets import write_folder


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    options = {"people": 3, "support": 6, "test": 5, "generic_people": 3, "generic_frames": 2, "others": 5}
    found = RenderedPeople(**options, reference_people=2, size=32, cache_dir=str(tmp_path_factory.mktemp("cache")))
    found.prepare()
    return found


def test_groups_are_different_people(people):
    groups = [{name} for name in people.names]
    groups += [set(batch.subject) for batch in (people.generic(), people.others(), people.reference())]
    assert sum(map(len, groups)) == len(set.union(*groups))
    for number, name in enumerate(people.names):
        assert set(people.support(number).subject) == set(people.test(number).subject) == {name}


def test_the_photo_comes_first_and_is_neutral_and_the_rest_depends_on_the_seed(people):
    one, other = people.support(1, 4, seed=0), people.support(1, 4, seed=1)
    assert float(one.au_intensity[0].sum()) == 0
    assert torch.equal(one.image[0], other.image[0])
    assert not torch.equal(one.image[1:], other.image[1:])
    assert len(people.support(1, 0)) == 0
    with pytest.raises(ValueError, match=r"expected 0\.\.6"):
        people.support(1, 7)


def test_support_and_test_share_no_frame(people):
    support, test = people.support(0), people.test(0)
    assert not set(support.frame.tolist()) & set(test.frame.tolist())
    assert (len(support), len(test), len(people.generic()), len(people.others())) == (6, 5, 6, 5)


def test_some_of_the_reference_is_neutral(people):
    assert int((people.reference().au_intensity == 0).all(1).sum()) >= 4


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match="people: expected"):
        RenderedPeople(people=0)
    with pytest.raises(ValueError, match="split"):
        RenderedPeople(split="train")  # type: ignore[arg-type]


def test_sets_on_disk(tmp_path):
    for name, seed, count, each in (("a", 1, 12, 6), ("b", 2, 4, 2), ("c", 3, 4, 2)):
        write_folder(FaceRenderer(32, seed=seed), tmp_path / name, count, frames_per_subject=each, progress=False)
    paths = [str(tmp_path / name) for name in "abc"]
    people = LabelledPeople(*paths, support=4, size=32)
    assert len(people.names) == 2
    assert len(people.support(0, 2)) == 2 and len(people.test(0)) == 2 and len(people.generic()) == 2
    assert not set(people.generic().subject) & set(people.reference().subject) and len(people.reference()) == 2
    own = LabelledPeople(*paths, support=4, size=32, reference=paths[1])
    assert len(own.generic()) == len(own.reference()) == 4  # as named; the study refuses it
    write_folder(FaceRenderer(32, seed=9), tmp_path / "d", 2, frames_per_subject=2, progress=False)
    with pytest.raises(ValueError, match="only one person: name a reference set"):
        LabelledPeople(paths[0], str(tmp_path / "d"), paths[2], support=4, size=32)
    with pytest.raises(ValueError, match="nobody has more than support=6"):
        LabelledPeople(*paths, support=6, size=32)
