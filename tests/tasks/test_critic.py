import pytest
import torch

from lit_faces.core.shipped import CRITIC, JUDGE
from lit_faces.core.weights import load_weights
from lit_faces.models.generators.fused import FusedGenerator
from lit_faces.tasks.au_detector import AUDetector, load_detector
from lit_faces.tasks.critic import AUCritic, same_detector
from lit_faces.tasks.reenactment import ReenactmentGAN


@pytest.fixture(scope="module")
def critic():
    return AUCritic("packaged")


def pictures(seed):
    return torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_no_distance_to_itself_and_a_gradient_towards_others(critic):
    target = pictures(0)
    assert all(float(x) == 0 for x in critic.distances(target, target))
    image = pictures(1).requires_grad_()
    features, au = critic.distances(image, target)
    assert features > 0 and au > 0
    (features + au).backward()
    assert image.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in critic.parameters())


def test_it_stays_in_evaluation_mode(critic):
    before = {k: v.clone() for k, v in critic.state_dict().items()}
    critic.train()
    critic.distances(pictures(1), pictures(0))
    assert not critic.backbone.training
    assert all(torch.equal(v, before[k]) for k, v in critic.state_dict().items())


def test_it_reads_what_its_detector_reads(critic):

    with torch.no_grad():
        assert torch.equal(critic.look(pictures(2))[1], load_detector(CRITIC)(pictures(2)))


def test_what_trains_a_generator_cannot_referee_it_under_any_name(tmp_path):
    file = AUDetector("aligned_face_small").export_weights(tmp_path / "detector.safetensors")
    copy = tmp_path / "another name.safetensors"
    copy.write_bytes(file.read_bytes())
    for critic, judge in ((file, file), (file, copy), (CRITIC, "packaged"), ("packaged", JUDGE)):
        refused = same_detector(critic, judge)
        assert refused == (critic == file)
        if refused:
            with pytest.raises(ValueError, match="cannot referee"):
                ReenactmentGAN(FusedGenerator(width=4, condition_width=8), critic=str(critic), judge=str(judge))
    assert same_detector(JUDGE, "packaged") and not same_detector("packaged", "packaged")


def test_the_packaged_critic_and_judge_are_other_networks_trained_on_other_people():
    cards = [load_weights(path)[1] for path in (CRITIC, JUDGE)]
    assert cards[0]["backbone"] != cards[1]["backbone"]
    assert [card["people_seed"] for card in cards] == [2000, 3000]


def test_a_foreign_backbone_is_refused(tmp_path):
    AUDetector("resnet10t").export_weights(tmp_path / "detector.safetensors")
    with pytest.raises(ValueError, match="a backbone of ours"):
        AUCritic(tmp_path / "detector.safetensors")
