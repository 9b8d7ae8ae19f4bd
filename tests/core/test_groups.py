"""Groups that share people are refused."""

import pytest

from lit_faces.core.groups import disjoint


def test_groups_of_other_people_pass_and_nameless_faces_are_nobodys(faces):
    disjoint({"learnt": ["S1", "", "S2"], "tested": ["S10", "", "s1"], "strangers": faces(3, 1)})


def test_whoever_is_in_two_groups_is_named_with_both(faces):
    batch = faces(3, 1)
    with pytest.raises(ValueError, match=r"strangers: 's1:0' and 2 more is among learnt too"):
        disjoint({"learnt": batch.subject, "others": ["x"], "strangers": batch})
    with pytest.raises(ValueError, match=r"tested: 'S2' is among others too"):
        disjoint({"learnt": ["S1"], "others": {"S2"}, "tested": iter(["S2", "S3"])})
