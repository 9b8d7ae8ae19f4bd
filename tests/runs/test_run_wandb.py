"""What the W&B file of a run says of the machine, the user and the places: nothing."""

import getpass
import json
import os
import socket
from pathlib import Path

from lit_faces.fit import main
from lit_faces.reports.tracking import without_paths
from tests.wandb_file import OfflineRun


def test_no_host_user_or_path_is_in_the_file_of_a_run(toy: Path, monkeypatch) -> None:
    secret = toy.parent / "secret_user" / "data"
    secret.mkdir(parents=True)
    monkeypatch.setattr(socket, "gethostname", lambda: "secret_host")
    monkeypatch.setenv("USER", "secret_login")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789secretkey0123456789secretkey01")
    options = ["--data.folder", str(secret), "--runs", str(toy.parent / "secret_runs"), "--trainer.max_epochs", "1"]
    assert main([str(toy), *options, "--wandb", "offline"]) == 0
    run = OfflineRun.read(toy.parent / "secret_runs")
    assert run.config()["data"]["init_args"]["folder"] == "data", "of a path its last name"
    for record in run.records:  # where W&B finds what it uploads stays in this file; what it sends has no such field
        for entry in record.get("artifact", {}).get("manifest", {}).get("contents", []):
            entry.pop("local_path", None)
    text = json.dumps(run.records)
    words = [str(toy.parent), str(Path.home()), os.uname().nodename, "secret_host", "secret_login", "secret_user"]
    words += ["secretkey", *([getpass.getuser()] if getpass.getuser() not in ("root", "runner") else [])]
    assert [word for word in words if len(word) > 2 and word in text] == []
    files = {path.name for path in (toy.parent / "secret_runs").glob("toy/*/wandb/offline-run-*/files/*")}
    assert "wandb-metadata.json" not in files and "output.log" not in files
    (name,) = {record["run"]["display_name"] for record in run.records if record["type"] == "run"}
    assert name.startswith("toy/2"), "experiment and time"


def test_paths_are_reduced_to_names_and_files_of_people_to_digests(tmp_path: Path) -> None:
    photo = tmp_path / "anna.jpg"
    photo.write_bytes(b"a face")
    config = {"photo": str(photo), "sets": [{"path": "/home/me/disfa"}, "~/x.ckpt"], "lr": 0.1, "class_path": "a.b.C"}
    found = without_paths(config)
    assert found["photo"].startswith("jpg:") and "anna" not in str(found)
    assert found["sets"] == [{"path": "disfa"}, "x.ckpt"] and (found["lr"], found["class_path"]) == (0.1, "a.b.C")
