import pytest
import pytorch_lightning as pl
import torch

from lit_faces.core.facs import AU_INDEX
from lit_faces.core.orders import OrderedFaces, Orders
from lit_faces.core.sample import joined
from lit_faces.core.weights import load_weights, save_weights
from lit_faces.tasks.au_detector import WEIGHTS_FILE, AUDetector, load_detector

pytestmark = pytest.mark.filterwarnings("ignore")


def trainer(path, **options):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=path,
        **options,
    )


def build(**options):
    torch.manual_seed(0)
    return AUDetector(**{"backbone": "aligned_face_small", "size": 32, **options})


def test_training_exports_a_judge_that_reads_the_same(tmp_path, frame_loader, faces):
    task = build(weight_ordinal=0.1, weight_occurrence=0.1)
    run = trainer(tmp_path)
    run.fit(task, frame_loader(3), frame_loader(2))
    assert "val/icc/AU06" in run.callback_metrics and "val/icc/mean" in run.callback_metrics
    judge = load_detector(tmp_path / WEIGHTS_FILE)
    images = faces(5, 7).image
    assert torch.allclose(judge.predict_au(images), task.predict_au(images), atol=0.02)  # stored in 16 bits
    assert judge.predict_au(images).shape == (5, 19)
    assert judge.images_seen == 12 and not judge.training


def test_it_learns_a_visible_label(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def batch(number):
        from tests.conftest import make_faces

        faces = make_faces(16, number)
        level = torch.rand(16, 1, 1, 1, generator=generator)
        faces.image[:, :, 10:20, 10:20] = (level * 255).to(torch.uint8)
        faces.au_intensity[:] = float("nan")
        faces.au_intensity[:, 4] = level.flatten() * 5
        return faces

    task = build(augment=False, lr=3e-3)
    data = [batch(i) for i in range(60)]
    loader = torch.utils.data.DataLoader(data[:50], batch_size=None)
    run = trainer(tmp_path)
    run.fit(task, loader, torch.utils.data.DataLoader(data[50:], batch_size=None))
    assert run.callback_metrics["val/icc/AU06"] > 0.6
    assert run.callback_metrics["val/icc/AU12"].isnan()  # not coded


def test_predicting_leaves_the_mode_alone_and_takes_other_sizes(faces):
    task = build().train()
    found = task.predict_au(faces(3, 0, size=64).image)
    assert task.training
    assert found.shape == (3, 19) and found.min() >= 0 and found.max() <= 5
    assert task.predict_au(faces(3, 0).image[:0]).shape == (0, 19)


def test_other_files_are_refused(tmp_path):
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"kind": "reenactment"})
    with pytest.raises(ValueError, match="expected the weights of an AU detector, found 'reenactment'"):
        load_detector(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        load_detector(tmp_path / "none.safetensors")


def test_its_checkpoint_is_plain_data(tmp_path, frame_loader):
    run = trainer(tmp_path)
    run.fit(build(), frame_loader(1))
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = AUDetector.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.size == 32 and again.images_seen == 4


def test_all_heads_learn_and_come_back(tmp_path, frame_loader, faces):
    task = build(occurrence_head=True, expression_head=True, weight_occurrence=1.0, calibrate=True)
    before = {name: p.clone() for name, p in task.named_parameters()}
    trainer(tmp_path).fit(task, frame_loader(4), frame_loader(12))
    for head in ("occurrence", "expression"):
        moved = [not torch.equal(p, before[n]) for n, p in task.named_parameters() if n.startswith(f"{head}.")]
        assert all(moved) == (head == "occurrence") and moved  # no expression is coded here
    again = load_detector(tmp_path / WEIGHTS_FILE)
    images = faces(5, 7).image
    one, other = task.predict(images), again.predict(images)
    assert one.occurrence.shape == (5, 19) and one.expression.shape == (5, 8)
    for name in ("intensity", "occurrence", "expression"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=0.03)
    # an AU that was never coded is present from a probability of one half on
    assert torch.equal(again.occurs(other)[:, 1::2], (other.occurrence.sigmoid()[:, 1::2] >= 0.5).float())
    assert again.calibration.threshold.max() < 1


def test_an_occurrence_head_without_a_loss_is_refused(tmp_path, frame_loader):
    with pytest.raises(ValueError, match="nothing would train it"):
        trainer(tmp_path).fit(build(occurrence_head=True), frame_loader(1))


def test_starting_from_another_detector(tmp_path, frame_loader):
    first = build()
    first.export_weights(tmp_path / "first.safetensors", half=False)
    torch.manual_seed(1)
    second = AUDetector("aligned_face_small", size=32, init=str(tmp_path / "first.safetensors"), lr=1e-12)
    trainer(tmp_path).fit(second, frame_loader(1))
    assert torch.allclose(second.head.linear.weight, first.head.linear.weight, atol=1e-6)
    with pytest.raises(ValueError, match="its backbone is 'aligned_face_small'"):
        trainer(tmp_path).fit(AUDetector("resnet10t", init=str(tmp_path / "first.safetensors")), frame_loader(1))


def test_a_new_occurrence_head_starts_from_the_intensities(tmp_path, frame_loader, faces):
    first = build()
    torch.nn.init.normal_(first.head.linear.weight)  # readings on both sides of grade 2
    first.export_weights(tmp_path / "first.safetensors", half=False)
    options = {"occurrence_head": True, "weight_occurrence": 1.0, "lr": 1e-12}
    second = AUDetector("aligned_face_small", size=32, init=str(tmp_path / "first.safetensors"), **options)
    trainer(tmp_path, limit_train_batches=1).fit(second, frame_loader(1))
    found = second.predict(faces(16, 0).image)
    occurs = second.occurs(found)
    assert torch.equal(occurs, (found.intensity >= 2).float()) and 0.05 < occurs.mean() < 0.95


def test_validating_later_leaves_the_calibration_alone(tmp_path, frame_loader):
    task = build(calibrate=True)
    run = trainer(tmp_path)
    run.fit(task, frame_loader(2), frame_loader(20))
    before = task.calibration.scale.clone()
    run.validate(task, frame_loader(12), verbose=False)
    assert torch.equal(task.calibration.scale, before)


def test_calibration_brings_the_validation_people_to_scale(tmp_path, frame_loader):
    task = build(calibrate=True)
    trainer(tmp_path).fit(task, frame_loader(2), frame_loader(20))
    calibration = task.calibration
    assert not torch.equal(calibration.scale[::2], torch.ones(10))  # coded
    assert torch.equal(calibration.scale[1::2], torch.ones(9))  # not coded
    assert not torch.equal(calibration.threshold[::2], torch.full((10,), 2.0))


def test_mirrored_reading_is_symmetric(faces):
    task, images = build().eval(), faces(3, 0).image
    assert torch.allclose(
        task.predict_au(images, mirror=True), task.predict_au(images.flip(-1), mirror=True), atol=1e-5
    )


def test_expression_figures_leave_out_what_nobody_showed() -> None:
    from lit_faces.tasks.measured import expression_figures

    confusion = torch.zeros(8, 8)
    confusion[0, 0], confusion[0, 1], confusion[1, 1] = 3, 1, 4
    figures = expression_figures(confusion)
    assert figures["test/expression/accuracy"] == pytest.approx(7 / 8)
    assert figures["test/expression/recall/mean"] == pytest.approx((0.75 + 1) / 2)
    assert "test/expression/recall/fear" not in figures and expression_figures(torch.zeros(8, 8)) == {}


def test_orders_move_a_smile_above_the_same_persons_rest(tmp_path, faces):
    rest, smile = faces(8, 0), faces(8, 1)
    smile.image[:, :, 18:26] = 255  # what can be seen of it
    both = joined(rest, smile)
    both.au_intensity[:], both.au_occurrence[:] = float("nan"), float("nan")
    least, most = torch.full((8, 19), float("nan")), torch.full((8, 19), float("nan"))
    least[:, AU_INDEX[12]], most[:, AU_INDEX[12]] = 2.5, 3.5
    batch = OrderedFaces(both, Orders(torch.arange(8), 8 + torch.arange(8), least, most))
    task = build(augment=False, lr=3e-3, weight_order=4.0)
    run = trainer(tmp_path, limit_val_batches=0)
    run.fit(task, torch.utils.data.DataLoader([batch] * 60, batch_size=None))
    assert float(run.callback_metrics["train/order"]) < 0.02
    found = task.predict_au(smile.image) - task.predict_au(rest.image)
    assert 2.0 < float(found[:, AU_INDEX[12]].mean()) < 4.0
    assert run.callback_metrics["train/mse"] == 0  # nothing is coded


def test_orders_without_a_weight_are_left_out(tmp_path, frame_loader, faces):
    batch = OrderedFaces(
        faces(4, 0), Orders(torch.tensor([0]), torch.tensor([1]), torch.ones(1, 19), torch.ones(1, 19))
    )
    run = trainer(tmp_path, limit_val_batches=0, log_every_n_steps=1)
    run.fit(build(strong=True), torch.utils.data.DataLoader([batch], batch_size=None))
    assert "train/mse" in run.callback_metrics and "train/order" not in run.callback_metrics


def test_the_card_tells_the_whole_history(tmp_path, frame_loader):
    class Data(pl.LightningDataModule):
        def __init__(self, what):
            super().__init__()
            self.what = what

        def train_dataloader(self):
            return frame_loader(2)

        def seen(self):
            return [{"what": self.what}]

    for name, init in (("first", None), ("second", str(tmp_path / "first" / WEIGHTS_FILE))):
        trainer(tmp_path / name, limit_val_batches=0).fit(build(init=init), datamodule=Data(name))
    card = load_weights(tmp_path / "second" / WEIGHTS_FILE)[1]
    assert card["seen"] == [{"what": "second"}] and card["began_from"]["seen"] == [{"what": "first"}]
    assert card["began_from"]["weights"].startswith("weights-") and "tmp" not in str(card["began_from"])


def test_a_fresh_reference_head_reads_as_without_and_is_kept_in_the_file(tmp_path, faces):
    task = build(occurrence_head=True, expression_head=True, weight_occurrence=1.0, reference_head=True).eval()
    images = faces(3, 0).image
    alone = task.predict(images)
    task.set_references(task.make_references(images[:2]))
    assert torch.equal(task.predict(images).intensity, alone.intensity)
    with torch.no_grad():
        task.reference.shift.bias.fill_(0.5)
    beside = task.predict(images)
    assert (beside.intensity > alone.intensity).all()
    assert torch.allclose(beside.expression - alone.expression, torch.full_like(alone.expression, 0.5), atol=1e-4)
    again = load_detector(task.export_weights(tmp_path / "d.safetensors", half=False))
    assert torch.allclose(again.predict(images).intensity, alone.intensity, atol=1e-5)
    again.set_references(again.make_references(images[:2]))
    assert torch.allclose(again.predict(images).intensity, beside.intensity, atol=1e-5)


def test_references_need_a_head_and_their_own_detector(faces):
    with pytest.raises(ValueError, match="no reference head"):
        build().make_references(faces(1, 0).image)
    task = build(reference_head=True)
    found = task.make_references(faces(1, 0).image)
    found.features = found.features[:, :-1]
    with pytest.raises(ValueError, match="features, this detector has"):
        task.set_references(found)


def test_the_reference_head_alone_is_learnt_on_and_all_else_reads_as_before(tmp_path, frame_loader, faces):
    first = build(reference_head=True, occurrence_head=True, weight_occurrence=1.0)
    first.calibration.shift.fill_(0.25)
    start = first.export_weights(tmp_path / "first.safetensors", half=False)
    options = {"reference_head": True, "occurrence_head": True, "weight_occurrence": 1.0, "trains": "reference"}
    task = build(init=str(start), lr=1e-2, **options)
    batches = [batch for batch in frame_loader(3)]
    for batch in batches:
        batch.subject = [name for name in "aabb" for _ in range(len(batch) // 4 or 1)][: len(batch)]
    trainer(tmp_path / "run", limit_val_batches=0).fit(task, torch.utils.data.DataLoader(batches, batch_size=None))
    learnt, before, images = load_detector(tmp_path / "run" / WEIGHTS_FILE), load_detector(start), faces(3, 5).image
    assert torch.allclose(learnt.predict(images).intensity, before.predict(images).intensity, atol=0.02)
    held, now = before.state_dict(), task.state_dict()
    moved = {name.split(".")[0] for name in held if not torch.equal(held[name], now[name])}
    assert moved - {"prevalence"} == {"reference"}
    for one in (learnt, before):
        one.set_references(one.make_references(images[:1]))
    assert not torch.allclose(learnt.predict(images).intensity, before.predict(images).intensity, atol=0.02)
    with pytest.raises(ValueError, match="needs reference_head, an init"):
        trainer(tmp_path / "no").fit(build(**options), frame_loader(1), frame_loader(1))
