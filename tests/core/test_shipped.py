import pytest

from lit_faces.core import shipped
from lit_faces.tasks.au_detector import AUDetector
from lit_faces.tasks.reenactment import ReenactmentGAN


def test_scratch_means_the_same_everywhere() -> None:
    for kind in shipped.INIT_WORDS:
        assert shipped.initial_weights(kind, "scratch") is None and shipped.initial_weights(kind, None) is None
    assert AUDetector("aligned_face_small", size=32, init="scratch").starts_from() is None
    assert AUDetector("aligned_face_small", size=32, init="critic").starts_from() == shipped.CRITIC
    from lit_faces.models.generators.fused import FusedGenerator

    fused = FusedGenerator(width=4, condition_width=8)
    options = {"critic": None, "judge": None}
    assert ReenactmentGAN(fused, None, "scratch", **options).starts_from() is None
    assert ReenactmentGAN(fused, None, "base", **options).starts_from() == shipped.base_weights("fused")


@pytest.mark.parametrize(
    ("kind", "word", "right"), [("generator", "critic", "scratch, base"), ("detector", "base", "scratch, critic, generic")]
)  # fmt: skip
def test_a_wrong_word_is_answered_with_the_right_ones(kind: str, word: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"init '{word}': expected {right}, or a .safetensors file"):
        shipped.initial_weights(kind, word)


def test_a_generator_without_shipped_weights_says_so() -> None:
    with pytest.raises(FileNotFoundError, match=r"no base weights are shipped for the generator 'mine'.*--model.init"):
        shipped.initial_weights("generator", "base", "mine")


def test_a_file_is_itself(tmp_path) -> None:
    file = tmp_path / "weights.safetensors"
    file.touch()
    assert shipped.initial_weights("detector", str(file)) == file
