"""What the commands tell Weights & Biases: figures with their direction, pictures, tables, and what was made of what.

Lineage: every file that one command makes and another reads is an artifact whose name holds the digest of its content,
so that runs which never met are joined: data -> generator -> person set -> detector. Of data and person sets only a
description is logged, never a face. Offline, nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import netrc
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lit_faces.core.facs import AU_KEYS
from lit_faces.core.shipped import PHOTO_HEAD, weights_path
from lit_faces.slurm import in_job

MODES = ("auto", "offline", "online", "disabled")
STEP = "trainer/global_step"
_HOST = "api.wandb.ai"
_OLD_MODES = {"dryrun": "offline", "run": "online"}
_NAMES = ("run/person", "run/learnt", "run/test_is", "run/memory", "run/detector", "run/source")  # say who or where
_PRIVATE = ("command", "learnt", "init", "person", "name")  # of a card: what was typed, and who
_TELLING_NAMES = (".safetensors", ".ckpt", ".yaml", ".yml")
_NOBODY = "lit_faces"  # an empty word would be filled in by W&B
_LARGEST = 200 * 2**20  # bytes of a weight file that is copied into W&B's folder


def direction(name: str) -> str | None:
    """``min`` or ``max``: which end of a figure is good; None where neither is.

    Example:
        >>> direction("test/au_fidelity/icc/AU06"), direction("val/l1_changed"), direction("train/images")
        ('max', 'min', None)
    """
    from lit_faces.metrics.directions import higher_is_better

    better = higher_is_better(name)
    return None if better is None else "max" if better else "min"


def define_metrics(run: Any, names: Iterable[str]) -> None:
    """Tell W&B how to sum up each figure, and that steps of training are the x axis."""
    for name in names:
        best = direction(name)
        summary = best if best and not name.startswith("test/") else "last"  # a test is not chosen among
        run.define_metric(name, step_metric=STEP, step_sync=True, summary=summary)


def digest_of(path: Path) -> str:
    """Twelve hexadecimal digits of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:12]


def weights_artifact(kind: str, path: Path) -> Any:
    """A weight file and its card; named by its content. Of a detector that has learnt people, the card alone."""
    import wandb

    from lit_faces.core.weights import load_weights

    card = dict(load_weights(path)[1])
    learnt = card.get("people_learnt", len(card.get("learnt", ())))
    card = without_paths({key: value for key, value in card.items() if key not in _PRIVATE})
    if learnt:
        card["people_learnt"] = learnt
    artifact = wandb.Artifact(f"{kind}-{digest_of(path)}", type=kind, metadata=card)
    if learnt or path.stat().st_size > _LARGEST:
        with artifact.new_file(f"{kind}.json") as file:
            file.write(json.dumps({"digest": digest_of(path), **card}, sort_keys=True, default=str))
    else:
        artifact.add_file(str(path), name=f"{kind}.safetensors")
    return artifact


def described_artifact(kind: str, facts: Mapping[str, Any]) -> Any:
    """Something whose content stays where it is: only its description is logged."""
    import wandb

    text = json.dumps(facts, sort_keys=True, indent=1, default=str)
    name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    artifact = wandb.Artifact(name, type=kind, metadata=dict(facts))
    with artifact.new_file(f"{kind}.json") as file:
        file.write(text)
    return artifact


def use(run: Any, artifact: Any) -> str:
    """Say that the run reads it; returns its name."""
    if run.offline:  # use_artifact asks the server; this is what it does with a new artifact, and works later, at sync
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)
    return str(artifact.name)


def set_facts(folder: Path) -> dict[str, Any]:
    """What may be told of a prepared or generated set: counts and digests, no face, no name, no path.

    Raises:
        FileNotFoundError: no manifest there.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    shards = sorted(path.name for path in folder.glob("shard-*"))
    return {
        "set": manifest.get("name"),
        "faces": manifest.get("faces"),
        "size": manifest.get("size"),
        "shards": len(shards),
        "index": digest_of(folder / "index.arrow"),
    }


def add_wandb_argument(parser: argparse.ArgumentParser) -> None:
    """``--wandb MODE``; off unless asked for, as these commands are about somebody's face."""
    parser.add_argument(
        "--wandb",
        default="disabled",
        metavar="MODE",
        help="offline, online, auto, or disabled (default): no face is logged",
    )


def track_set(
    folder: Path, mode: str, figures: Mapping[str, Any], generator: str, judge: str, settings: Mapping[str, Any]
) -> None:
    """Log a person set that is finished.

    Args:
        folder: the set.
        mode: of W&B.
        figures: flat.
        generator: ``photohead``, or weights, as given; logged by their content.
        judge: likewise.
        settings: plain ones.
    """
    with tracked("generate", mode, folder, settings) as tracker:
        if tracker is None:
            return
        read = [weights_artifact("detector", weights_path("judge", judge))]
        if generator != PHOTO_HEAD:  # which has none
            read.append(weights_artifact("generator", weights_path("generator", generator)))
        tracker.reads(*read)
        tracker.figures(figures)
        tracker.aus(figures)
        tracker.pictures(
            {
                "asked against achieved intensity of each AU": folder / "asked_achieved.png",
                "what moved besides what was asked: asked AU in rows, judged change in columns": folder / "leak.png",
                "distance to the source's identity, and landmark error": folder / "distances.png",
            }
        )
        tracker.makes(described_artifact("person-set", set_facts(folder)))


def track_detector(
    folder: Path, mode: str, figures: Mapping[str, Any], detector: str | Path, person: Path, settings: Mapping[str, Any]
) -> None:
    """Log a detector that has learnt a person.

    Args:
        folder: what ``adapt`` wrote.
        mode: of W&B.
        figures: flat; those that say who it is are left out.
        detector: what it started from.
        person: the set that was learnt.
        settings: plain ones.
    """
    with tracked("adapt", mode, folder, settings) as tracker:
        if tracker is None:
            return
        inputs = [weights_artifact("detector", weights_path("detector", detector))]
        if (person / "manifest.json").is_file():
            inputs.append(described_artifact("person-set", set_facts(person)))
        tracker.reads(*inputs)
        tracker.figures({key: value for key, value in figures.items() if key not in _NAMES})
        tracker.aus(figures)
        tracker.pictures(
            {
                "ICC and MAE by AU, before and after; crosses are strangers": folder / "before_after.png",
                "what is read at each intensity, before and after": folder / "calibration.png",
            }
        )
        tracker.makes(weights_artifact("detector", folder / "detector.safetensors"))


class Tracker:
    """One run of a command other than fit."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def reads(self, *artifacts: Any) -> None:
        """Inputs."""
        self.run.config.update({"inputs": [use(self.run, artifact) for artifact in artifacts]}, allow_val_change=True)

    def makes(self, *artifacts: Any) -> None:
        """Outputs."""
        for artifact in artifacts:
            self.run.log_artifact(artifact)

    def figures(self, figures: Mapping[str, Any]) -> None:
        """Numbers as metrics (grouped by their first word), all else as configuration."""
        numbers = {k: float(v) for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        numbers = {k: v for k, v in numbers.items() if v == v and not k.startswith(("run/", "packages/"))}
        for name in numbers:
            self.run.define_metric(name, summary="last")
        self.run.log(numbers)
        self.run.config.update(
            {"directions": {k: direction(k) for k in numbers if direction(k)}}, allow_val_change=True
        )

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table."""
        import wandb

        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def aus(self, figures: Mapping[str, Any]) -> None:
        """The figures that are by AU as a table."""
        found = au_table({k: float(v) for k, v in figures.items() if isinstance(v, int | float)})
        if found is not None:
            self.table("tables/aus", [str(name) for name in found[0]], found[1])

    def pictures(self, pictures: Mapping[str, Path]) -> None:
        """Plots by what they show, with captions."""
        import wandb

        for caption, path in pictures.items():
            if path.is_file():
                self.run.log({f"plots/{path.stem}": wandb.Image(str(path), caption=caption)})


def wandb_settings() -> Any:
    """Settings of every run: no host, user, path, command line, code or console, which may name somebody."""
    import wandb

    return wandb.Settings(
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host=_NOBODY,
        username=_NOBODY,
        email=_NOBODY,
        x_disable_meta=True,
        x_disable_machine_info=True,
    )


def without_paths(value: Any) -> Any:
    """A configuration with every path reduced to its last name; a file that is no weights to the digest of its content.

    Args:
        value: plain data.

    Example:
        >>> without_paths({"sources": [{"path": "/home/me/prepared/disfa"}], "class_path": "a.b.C"})
        {'sources': [{'path': 'disfa'}], 'class_path': 'a.b.C'}
    """
    if isinstance(value, Mapping):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(one) for one in value]
    if not isinstance(value, str) or not (value.startswith("~") or "/" in value or os.sep in value):
        return value
    path = Path(value)
    if path.suffix not in _TELLING_NAMES and path.is_file():  # a photo's name may be somebody's
        return f"{path.suffix.removeprefix('.') or 'file'}:{digest_of(path)}"
    return path.name


def resolve_mode(mode: str) -> str:
    """``offline``, ``online`` or ``disabled``.

    Raises:
        ValueError: another word.
    """
    if mode not in MODES:
        raise ValueError(f"--wandb {mode}: expected {', '.join(MODES)}")
    return default_wandb_mode() if mode == "auto" else mode


@contextmanager
def tracked(command: str, mode: str, folder: Path, config: Mapping[str, Any]) -> Iterator[Tracker | None]:
    """A W&B run of a command; None where it is disabled.

    Args:
        command: ``generate``, ``adapt``, ...: the job type.
        mode: auto, offline, online or disabled.
        folder: where W&B keeps its files.
        config: settings; paths and names of people do not belong there.
    """
    mode = resolve_mode(mode)
    if mode == "disabled":
        yield None
        return
    import wandb

    from lit_faces.reports.results import circumstances

    os.environ.setdefault("WANDB_SILENT", "true")
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project="lit_faces",
        job_type=command,
        name=f"{command}-{uuid.uuid4().hex[:8]}",  # a code: folders are called after people
        dir=str(folder.resolve()),
        mode=mode,  # type: ignore[arg-type]
        config={**config, **circumstances()},
        settings=wandb_settings(),
    )
    try:
        yield Tracker(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    where = Path(run.dir).parent
    run.finish()
    if mode == "offline":
        print(f"W&B, offline: browse with `wandb leet {where}`, upload with `wandb sync {where}`", flush=True)


def default_wandb_mode() -> str:
    """``$WANDB_MODE``, else ``online`` for a user who is logged in, else ``offline``. Asks no server.

    In a SLURM job always ``offline`` unless ``$WANDB_MODE`` says otherwise: nodes often have no network, and a login on
    the front end is seen there too; ``wandb.init`` would wait for minutes.

    Logged in means ``$WANDB_API_KEY``, or an entry for W&B's host (or ``$WANDB_BASE_URL``'s) in the netrc file.
    """
    if mode := os.environ.get("WANDB_MODE"):
        return _OLD_MODES.get(mode, mode)
    if in_job():
        return "offline"
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(os.environ.get("WANDB_BASE_URL") or f"https://{_HOST}").hostname
    try:
        hosts = netrc.netrc(os.environ.get("NETRC") or None).hosts
    except (OSError, netrc.NetrcParseError):
        return "offline"
    return "online" if host in hosts else "offline"


def plain_value(value: Any) -> Any:
    """What W&B shows: None for what is not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def au_table(figures: Mapping[str, float]) -> tuple[list[str | int], list[list[Any]]] | None:
    """AUs in rows, figures in columns; None where no figure is by AU."""
    stems = list(dict.fromkeys(name.rpartition("/")[0] for name in figures if name.rpartition("/")[2] in AU_KEYS))
    if not stems:
        return None
    rows = [[key, *(plain_value(figures.get(f"{stem}/{key}")) for stem in stems)] for key in (*AU_KEYS, "mean")]
    return ["AU", *(stem.removeprefix("test/") for stem in stems)], rows
