"""How fast faces stream: our shards beside bare JPEG decoding (the limit), a folder of files, webdataset and litdata.

    python -m benchmarks.streaming                      # samples/s at 128 px with 2 workers, ratios to the limit
    python -m benchmarks.streaming --memory 1000000     # and the memory over so many faces (epochs repeat)

Everything runs in turn, several rounds, medians are shown. webdataset and litdata are left out where not installed
(``pip install -e '.[benchmark]'``).
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from data_modules.base import _as_gathered
from data_modules.cropping import encode
from data_modules.mixture import MixtureBatches
from data_modules.prepared import Faces
from lit_faces.core.shards import ShardSet, ShardWriter, write_index
from lit_faces.rendering.renderer import FaceRenderer

SIZE, SHARD = 128, 1000


def make(out: Path, count: int) -> list[bytes]:
    """Write the set as shards and as files; returns the encoded pictures."""
    different = min(count, 600)
    rows = torch.arange(different)
    faces = FaceRenderer(SIZE, seed=11).render(rows // 4, rows % 4).image.permute(0, 2, 3, 1).numpy()
    chance = np.random.default_rng(0)
    pictures = []
    for i in range(count):  # other light: other bytes
        light = chance.uniform(0.7, 1.2, 3)
        pictures.append(encode((faces[i % different] * light).clip(0, 255).astype(np.uint8), "jpg"))
    (out / "files").mkdir(parents=True)
    (out / "shards").mkdir()
    nothing = np.full(19, np.nan, np.float32)
    labels = {"source": "x", "split": "", "emotion": -1, "au_intensity": nothing, "au_occurrence": nothing,
              "landmarks": np.full(136, np.nan, np.float32), "pose": np.full(3, np.nan, np.float32)}  # fmt: skip
    shards = -(-count // SHARD)
    for number in range(shards):
        writer = ShardWriter(out / "shards", number)
        for i in range(number * SHARD, min(count, (number + 1) * SHARD)):
            row = {"subject": f"x:{i // 100}", "clip": f"{i // 100}", "frame": i, **labels}
            writer.add(f"x-{i:07d}", pictures[i], "jpg", row)
            (out / "files" / f"{i:07d}.jpg").write_bytes(pictures[i])
        writer.close()
    write_index(out / "shards", shards, {"title": "x", "set": "x", "size": SIZE, "aus": []})
    return pictures


def _decode_all(pictures: list[bytes], seconds: float, result: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    import cv2

    cv2.setNumThreads(1)
    arrays = [np.frombuffer(picture, np.uint8) for picture in pictures]
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for array in arrays[:500]:
            cv2.imdecode(array, cv2.IMREAD_COLOR)
        count += 500
        arrays = arrays[500:] + arrays[:500]
    result.put(count / (time.perf_counter() - start))


def limit(pictures: list[bytes], workers: int, seconds: float) -> float:
    """Pictures/s of ``workers`` processes that decode from memory and do nothing else."""
    context = multiprocessing.get_context("fork")
    result = context.Queue()
    half = len(pictures) // workers
    jobs = [context.Process(target=_decode_all, args=(pictures[k * half : (k + 1) * half], seconds, result))
            for k in range(workers)]  # fmt: skip
    for job in jobs:
        job.start()
    total = sum(result.get() for _ in jobs)
    for job in jobs:
        job.join()
    return total


def ours(out: Path, workers: int, batch: int, threads: int = 1) -> DataLoader:
    """The loader of PreparedFaces with so many processes, and threads that decode."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    faces = ShardSet(out / "shards")
    data = Faces([faces], [np.arange(len(faces))], threads=threads)
    batches = MixtureBatches(data.sizes, batch_size=batch)
    return StatefulDataLoader(data, batch_sampler=batches, collate_fn=_as_gathered, num_workers=workers)


class Files(Dataset):
    """What everybody writes first: a folder of JPEG files."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(map(str, folder.glob("*.jpg")))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        import cv2

        picture = cv2.cvtColor(cv2.imread(self.files[index]), cv2.COLOR_BGR2RGB)
        return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def threads(out: Path, workers: int, batch: int) -> DataLoader:
    """The loader of PreparedFaces with threads instead of processes (its default)."""
    return ours(out, 0, batch, threads=workers)


def files(out: Path, workers: int, batch: int) -> DataLoader:
    """A shuffled DataLoader over the files."""
    return DataLoader(Files(out / "files"), batch_size=batch, shuffle=True, num_workers=workers)


def _rgb(data: bytes) -> torch.Tensor:
    import cv2

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def _only_picture(sample: dict) -> torch.Tensor:
    return _rgb(sample["jpg"])


def web(out: Path, workers: int, batch: int) -> DataLoader:
    """Webdataset over the same tar shards, a shuffle buffer of 1,000."""
    import webdataset

    shards = sorted(map(str, (out / "shards").glob("*.tar")))
    data = webdataset.WebDataset(shards, shardshuffle=100, empty_check=False).shuffle(1000).map(_only_picture)
    return webdataset.WebLoader(data.batched(batch, collation_fn=torch.stack), batch_size=None, num_workers=workers)


def _one(item: bytes) -> dict:
    return {"jpg": item}


def lit(out: Path, workers: int, batch: int) -> DataLoader:
    """Litdata over its own chunks."""
    import litdata

    folder = out / "litdata"
    if not folder.exists():
        pictures = [path.read_bytes() for path in sorted((out / "files").glob("*.jpg"))]
        litdata.optimize(_one, pictures, str(folder), chunk_bytes="64MB", num_workers=2)
        multiprocessing.set_start_method("fork", force=True)  # litdata changes it for everybody
    data = litdata.StreamingDataset(str(folder), shuffle=True, transform=_only_picture)
    return litdata.StreamingDataLoader(data, batch_size=batch, num_workers=workers)


def speed(loader: DataLoader, seconds: float) -> float:
    """Faces/s after the first two batches, over whole epochs or ``seconds``, whichever is longer."""
    count, elapsed = 0, 0.0
    while elapsed < seconds:
        stream: Iterator = iter(loader)
        next(stream), next(stream)  # workers start
        start = time.perf_counter()
        for item in stream:
            count += len(item)
        elapsed += time.perf_counter() - start
    return count / elapsed


def memory(out: Path, workers: int, batch: int, faces: int) -> list[tuple[int, float]]:
    """Resident memory of this process and its workers, MiB (proportional share), at ten moments."""
    loader, seen, told, epoch = threads(out, workers, batch), 0, [], 0
    while seen < faces:
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for item in loader:
            seen += len(item)
            if seen >= len(told) * faces / 10 + faces / 20:
                told.append((seen, _resident()))
                print(f"{seen:>12,} faces{told[-1][1]:>10.1f} MiB", flush=True)
        epoch += 1
    return told


def _resident() -> float:
    total = 0.0
    me = multiprocessing.current_process().pid
    for pid in [me, *(child.pid for child in multiprocessing.active_children())]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=12_000, help="faces in the set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="least time of a measurement")
    parser.add_argument("--memory", type=int, default=0, help="faces over which memory is watched")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = Path(tempfile.mkdtemp(prefix="streaming"))
    try:
        pictures = make(out, args.count)
        ways: dict[str, Callable[[], float]] = {
            "JPEG decoding alone": lambda: limit(pictures, args.workers, args.seconds)
        }
        loaders = {"lit_faces, threads": threads, "lit_faces, processes": ours, "folder of files": files}
        for name, title, way in (("webdataset", "webdataset", web), ("litdata", "litdata", lit)):
            if importlib.util.find_spec(name):
                loaders[title] = way
            else:
                print(f"{title} is not installed and left out")
        for title, way in loaders.items():
            ways[title] = lambda way=way: speed(way(out, args.workers, args.batch), args.seconds)  # type: ignore[misc]
        found: dict[str, list[float]] = {title: [] for title in ways}
        for _ in range(args.rounds):
            for title, way in ways.items():
                found[title].append(way())
        base = found["JPEG decoding alone"]
        print(f"{args.count:,} faces of {SIZE} px, {np.mean([len(p) for p in pictures]) / 1024:.1f} KiB each, "
              f"{args.workers} workers (processes, or threads), batches of {args.batch}, {args.rounds} rounds in turn")  # fmt: skip
        print(f"{'':22}{'faces/s':>10}{'of the limit':>14}   (lowest to highest round)")
        for title, values in found.items():
            ratios = [value / low for value, low in zip(values, base)]
            print(f"{title:22}{statistics.median(values):>10,.0f}{statistics.median(ratios):>14.2f}   "
                  f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
        if args.memory:
            told = memory(out, args.workers, args.batch, args.memory)
            first, last = told[1][1], told[-1][1]
            print(
                f"memory from {told[1][0]:,} to {told[-1][0]:,} faces: {first:.1f} to {last:.1f} MiB ({last - first:+.1f})"
            )
    finally:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
