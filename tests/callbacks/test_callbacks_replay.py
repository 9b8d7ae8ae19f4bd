"""Replay for modules that know nothing of it."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from lit_faces.callbacks.replay import ReplayCallback
from lit_faces.continual.replay import FaceMemory, ReplayMemory
from lit_faces.core.weights import load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")


class Rows(torch.utils.data.Dataset):
    def __init__(self, first=0):
        draws = torch.Generator().manual_seed(0)
        self.x = torch.randn(24, 3, generator=draws) + first

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return {"x": self.x[i], "y": self.x[i].sum()}


class Tiny(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.sizes, self.seen = nn.Linear(3, 1), [], []

    def training_step(self, batch):
        self.sizes.append(len(batch["x"]))
        self.seen.append(batch["x"].clone())
        return F.mse_loss(self.net(batch["x"])[:, 0], batch["y"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def fit(callback, module=None, epochs=1, checkpoint=None, first=0):
    module = module or Tiny()
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[callback], logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    trainer.fit(module, DataLoader(Rows(first), batch_size=6), ckpt_path=checkpoint)
    return module, trainer


def test_batches_grow_by_remembered_rows_and_only_new_rows_are_remembered():
    memory = ReplayMemory(100, "reservoir")
    module, _ = fit(ReplayCallback(memory, share=0.5))
    assert module.sizes == [6, 9, 9, 9]
    assert torch.equal(memory.rows()["x"], Rows().x)  # each row once: what was replayed is not remembered again
    old = {tuple(row.tolist()) for row in Rows().x}
    assert all(tuple(row.tolist()) in old for batch in module.seen for row in batch)


def test_a_full_memory_of_earlier_data_is_replayed_and_kept():
    memory = ReplayMemory(10, "reservoir")
    memory.add({"x": torch.full((10, 3), 7.0), "y": torch.full((10,), 21.0)})
    module, _ = fit(ReplayCallback(memory, learn=False))
    assert module.sizes == [12] * 4
    assert all(bool((batch[6:] == 7).all()) for batch in module.seen)
    assert memory.seen == 10


def test_resumed_from_a_checkpoint_it_ends_with_the_same_weights(tmp_path):
    whole, _ = fit(ReplayCallback(ReplayMemory(15)), epochs=2)
    _, trainer = fit(ReplayCallback(ReplayMemory(15)), epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert load_checkpoint(tmp_path / "half.ckpt")  # plain data: loads without running code
    resumed, _ = fit(ReplayCallback(ReplayMemory(3)), epochs=2, checkpoint=tmp_path / "half.ckpt")
    assert torch.equal(whole.net.weight, resumed.net.weight)


def test_memories_of_several_ranks_are_merged_for_another_number_of_ranks():
    callback = ReplayCallback(ReplayMemory(20, "reservoir"))
    states = []
    for rank in range(2):
        memory = ReplayMemory(20, "reservoir", rank)
        memory.add({"x": torch.full((40, 1), float(rank))})
        states.append(memory.state_dict())
    callback.load_state_dict({"memories": states, "batches": 3})
    callback._settle()  # as setup does, on the one rank that there is
    assert callback.memory.seen == 80 and len(callback.memory) == 20
    assert 0 < float(callback.memory.rows()["x"].mean()) < 1


def test_batches_that_cannot_be_lengthened_are_refused():
    callback = ReplayCallback(FaceMemory(5))
    with pytest.raises(TypeError, match="does not go with a FaceMemory"):
        fit(callback)
    with pytest.raises(TypeError, match="got list"):
        callback.on_train_batch_start(None, None, [torch.zeros(2)], 0)
    with pytest.raises(ValueError, match="share"):
        ReplayCallback(ReplayMemory(5), share=0)
