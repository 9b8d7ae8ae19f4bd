import copy

import numpy as np
import pytest
import torch
from lightning_utilities.core.imports import RequirementCache

from lit_faces.core.landmarks import FaceAnalyser
from lit_faces.core.weights import save_weights
from lit_faces.metrics import features as module
from lit_faces.metrics.features import DlibFeatures, InceptionFeatures, TimmFeatures, make_extractor

SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def analyser() -> FaceAnalyser:
    return FaceAnalyser()


@pytest.fixture(scope="module")
def crop() -> torch.Tensor:
    from skimage import data

    return torch.from_numpy(data.astronaut()[56:184, 161:289].copy()).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def timm_weights(tmp_path_factory):
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "small.safetensors"
    save_weights(path, timm.create_model(SMALL, pretrained=False).state_dict(), {})
    return path


def test_dlib_features_are_the_embedding(analyser, crop):
    result = DlibFeatures(analyser)(crop)
    assert result.features.shape == (1, 128) and result.logits is None and result.found.tolist() == [True]
    assert torch.equal(result.features, analyser.batch_embeddings(crop))


def test_an_image_without_a_face_is_embedded_at_its_centre(analyser, crop):
    ruined = torch.cat(
        [crop, torch.randint(0, 256, crop.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)]
    )
    result = DlibFeatures(analyser)(ruined)
    assert result.found.tolist() == [True, False]
    assert result.features.isfinite().all()
    assert (result.features[0] - result.features[1]).norm() > 0.5


def test_landmarks_that_were_found_already_are_used(analyser, crop):
    extractor = DlibFeatures(analyser)
    landmarks = analyser.batch_landmarks(crop)
    assert torch.equal(extractor.of_landmarks(crop, landmarks).features, extractor(crop).features)


def test_timm_features_and_logits(timm_weights, crop):
    extractor = TimmFeatures(SMALL, timm_weights)
    result = extractor(crop)
    assert result.features.shape == (1, extractor.num_features) and result.logits.shape == (1, 1000)
    assert extractor.name == f"timm-{SMALL}"
    assert not any(p.requires_grad for p in extractor.network.parameters()) and not extractor.network.training
    assert torch.equal(extractor(crop).features, result.features)


def test_timm_reads_checkpoints_too(tmp_path, timm_weights, crop):
    from lit_faces.core.weights import load_weights

    torch.save(load_weights(timm_weights)[0], tmp_path / "small.pth")
    features = [TimmFeatures(SMALL, path)(crop).features for path in (timm_weights, tmp_path / "small.pth")]
    assert torch.equal(*features)


def test_timm_errors_name_the_model_and_the_fix(timm_weights):
    with pytest.raises(ValueError, match=r"timm:resnet18 needs a weight file: .*pretrained=True"):
        make_extractor("timm:resnet18")
    with pytest.raises(ValueError, match=r"timm knows no model 'resnet8'; near: .*resnet"):
        make_extractor("timm:resnet8", timm_weights)
    with pytest.raises(ValueError, match="another architecture"):
        make_extractor("timm:mobilenetv3_small_075", timm_weights)
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        make_extractor(f"timm:{SMALL}", timm_weights.parent / "nothing.safetensors")


def test_inception_without_its_file_says_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / module.INCEPTION_FILE
    with pytest.raises(FileNotFoundError, match=rf"at {place}; put https://.*features: dlib"):
        make_extractor("inception")
    assert make_extractor("auto").name == "dlib"


def test_inception_without_its_package_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_FIDELITY", RequirementCache("torch-fidelity-that-nobody-has>=0.3"))
    (tmp_path / "weights.pth").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*torch-fidelity"):
        InceptionFeatures(tmp_path / "weights.pth")


def test_inception_from_a_file_gives_features_and_logits(tmp_path, monkeypatch, crop):
    network = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity comes with the extra [inception]"
    ).FeatureExtractorInceptionV3
    monkeypatch.setattr(torch, "hub", None)  # nothing may be downloaded
    torch.manual_seed(0)
    state = _untrained_inception(network)
    path = tmp_path / "hub" / "checkpoints" / module.INCEPTION_FILE
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    extractor = make_extractor("auto")
    result = extractor(crop)
    assert extractor.name == "inception"
    assert result.features.shape == (1, 2048) and result.logits.shape == (1, 1008)


def _untrained_inception(network) -> dict[str, torch.Tensor]:
    """A state_dict of the right shapes, made without the constructor's own loading."""
    original = torch.nn.Module.load_state_dict
    try:
        torch.nn.Module.load_state_dict = lambda self, *args, **kwargs: None
        loader, torch.load = torch.load, lambda *args, **kwargs: {}
        return network("inception-v3-compat", ["2048"], feature_extractor_weights_path="none").state_dict()
    finally:
        torch.nn.Module.load_state_dict, torch.load = original, loader


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="expected dlib, inception, timm:NAME or auto, got 'vgg'"):
        make_extractor("vgg")


def test_extractors_can_be_copied(analyser, crop):
    extractor = DlibFeatures(analyser)
    assert np.array_equal(copy.deepcopy(extractor)(crop).features, extractor(crop).features)
