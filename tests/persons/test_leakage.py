"""Nothing is measured on whom or what was learnt; what is held out is no neighbour of what is learnt."""

from dataclasses import replace

import pytest
import torch

from lit_faces.persons.leakage import batch_digest, hold_out, picture_digests, refuse_shared


def person(faces, rows, seed=1, name="anna", source="labelled", frame=None):
    batch = faces(rows, seed)
    frame = torch.arange(rows) if frame is None else torch.tensor(frame)
    return replace(batch, subject=[name] * rows, source=[source] * rows, frame=frame)


def test_groups_that_are_apart_pass(faces):
    groups = {"--person": person(faces, 3), "--generic": person(faces, 3, 2, "eve"), "--others": faces(4, 3)}
    refuse_shared(groups, called={"--person": "anna"})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"name": "anna"}, r"--person and --generic share a person \(anna\)"),
        ({"name": "anna", "source": "disfa"}, r"share a person \(anna\)"),  # a whole group's name counts in every set
        ({"name": "eve", "seed": 1}, "--person and --generic share 3 pictures"),
    ],
)
def test_a_shared_person_or_picture_is_refused(faces, other, message):
    groups = {"--person": person(faces, 3), "--generic": person(faces, 3, **{"seed": 2, **other})}
    with pytest.raises(ValueError, match=message):
        refuse_shared(groups, called={"--person": "anna"})


def test_a_name_counts_within_its_source_set(faces):
    groups = {"--others": person(faces, 3, 1, "SN001", "disfa"), "--generic": person(faces, 3, 2, "SN001", "unbc")}
    refuse_shared(groups)
    groups["--generic"] = replace(groups["--generic"], source=["disfa"] * 3)
    with pytest.raises(ValueError, match="SN001"):
        refuse_shared(groups)


def test_the_person_may_be_in_the_test_but_not_with_the_same_picture(faces):
    learnt, test = person(faces, 4), person(faces, 3, 2)
    refuse_shared({"--person": learnt, "--test": test}, people=[("--test", "--person")])
    test.image[1] = learnt.image[3]
    with pytest.raises(ValueError, match="--person and --test share 1 picture"):
        refuse_shared({"--person": learnt, "--test": test}, people=[("--person", "--test")])


def test_faces_without_a_name_are_nobody_in_particular(faces):
    refuse_shared({"--others": person(faces, 3, 1, ""), "--generic": person(faces, 3, 2, "")})


@pytest.mark.parametrize("seed", range(8))
def test_a_block_of_time_is_held_out_with_a_gap_on_both_sides(faces, seed):
    batch = person(faces, 40)
    found = hold_out(batch, 0.2, seed)
    test, learnt = found.test.frame.tolist(), found.learnt.frame.tolist()
    assert test == list(range(test[0], test[0] + 8)), "one block"
    assert min(abs(a - b) for a in test for b in learnt) == 3, "two frames on each side are in neither"
    assert found.honest and "a block of time" in found.test_is
    assert hold_out(batch, 0.2, seed).test.frame.tolist() == test


def test_seeds_choose_different_blocks(faces):
    assert len({hold_out(person(faces, 40), 0.2, seed).test.frame[0].item() for seed in range(12)}) > 2


def test_frames_that_stand_in_any_order_are_put_in_time(faces):
    batch = person(faces, 40).select(torch.randperm(40, generator=torch.Generator().manual_seed(3)))
    test = sorted(hold_out(batch, 0.2, 0).test.frame.tolist())
    assert test == list(range(test[0], test[0] + 8))


def test_whole_clips_are_held_out_where_there_are_many(faces):
    clips = [f"c{row // 6}" for row in range(36)]
    found = hold_out(person(faces, 36), 0.3, 0, clips)
    held = {clips[frame] for frame in found.test.frame.tolist()}
    assert not held & {clips[frame] for frame in found.learnt.frame.tolist()} and "whole clips" in found.test_is
    assert len(found.test) + len(found.learnt) == 36 and len(found.test) == 12


def test_clips_are_seen_where_frame_numbers_begin_again(faces):
    found = hold_out(person(faces, 36, frame=[row % 6 for row in range(36)]), 0.3, 0)
    assert "whole clips" in found.test_is and sorted(found.test.frame.tolist()) == sorted([*range(6)] * 2)


def test_generated_pictures_are_independent_of_each_other(faces):
    batch = person(faces, 40, source="generated/packaged")
    found = hold_out(batch, 0.2, 0)
    assert (len(found.test), len(found.learnt)) == (8, 32) and "generated" in found.test_is
    assert found.test.frame.diff().max() > 1, "from all over the plan"


def test_a_picture_that_is_learnt_is_never_tested(faces):
    batch = person(faces, 40, source="generated/packaged")
    batch.image[:20] = batch.image[0]
    found = hold_out(batch, 0.5, 0)
    assert not set(picture_digests(found.test.image)) & set(picture_digests(found.learnt.image))


def test_too_few_faces_are_all_learnt_and_the_test_says_so(faces):
    found = hold_out(person(faces, 8), 0.2, 0)
    assert not found.honest and len(found.learnt) == len(found.test) == 8 and "says nothing" in found.test_is


def test_a_digest_changes_with_pictures_labels_and_names(faces):
    batch = person(faces, 3)
    one = batch_digest(batch)
    assert one == batch_digest(person(faces, 3)) != batch_digest(replace(batch, subject=["eve"] * 3))
    batch.au_intensity[0, 0] += 1
    assert batch_digest(batch) != one
