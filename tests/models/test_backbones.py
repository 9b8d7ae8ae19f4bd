import pytest
import torch

from lit_faces.core.weights import save_weights
from lit_faces.models.backbones import build_backbone
from lit_faces.models.heads import AUHead


@pytest.mark.parametrize("name", ["aligned_face_small", "aligned_face_base", "aligned_face_deep", "resnet10t"])
def test_backbones_by_name(name):
    network, width = build_backbone(name)
    features = network.eval()(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, width)
    au = AUHead(width)(features)
    assert au.shape == (2, 19) and ((au > 0) & (au < 5)).all()


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ValueError, match=r"nearest: .*resnet18"):
        build_backbone("resnet_18")


def test_local_weights(tmp_path):
    network, _ = build_backbone("aligned_face_small")
    save_weights(tmp_path / "a.safetensors", network.state_dict(), {})
    again, _ = build_backbone("aligned_face_small", tmp_path / "a.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values()))
    with pytest.raises(ValueError, match="another architecture"):
        build_backbone("aligned_face_base", tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        build_backbone("aligned_face_small", tmp_path / "none.safetensors")


def test_the_place_of_a_feature_counts():
    network, _ = build_backbone("aligned_face_small")
    picture = torch.zeros(2, 3, 64, 64)
    picture[0, :, 8:16, 24:40] = 1.0
    picture[1, :, 48:56, 24:40] = 1.0
    features = network.eval()(picture)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_stages_end_in_the_features():
    network = build_backbone("aligned_face_small")[0].eval()
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    maps, features = network.stages(picture)
    assert [m.shape[-1] for m in maps] == [32, 16, 16, 8, 8, 4]
    assert torch.equal(features, network(picture))
