"""A prepared set in an object store: each shard is fetched once, checked, and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from lit_faces.core.files import default_cache_dir, replace_file


class RemoteFolder:
    """Files below a URL of fsspec (``s3://``, ``gs://``, ``https://`` ...), kept in a local folder.

    Several processes may fetch at once: each file is written under a name of its own and then renamed.

    Args:
        url: folder of the set.
        cache: local folder; None means ``$LIT_FACES_CACHE/fetched`` or ``~/.cache/lit_faces/fetched``.

    Raises:
        ValueError: the scheme needs a package that is not installed; names it.
    """

    def __init__(self, url: str, cache: Path | None = None) -> None:
        import fsspec

        self.url, self.cache = url.rstrip("/"), cache
        try:
            self.store, self.base = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{url}: {error}") from error
        top = cache if cache is not None else default_cache_dir() / "fetched"
        self.folder = top / hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def fetch_head(self) -> Path:
        """The local folder, with a fresh manifest and its index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = self._get("manifest.json")
        old = self.folder / "manifest.json"
        if not old.is_file() or old.read_bytes() != manifest or not (self.folder / "index.arrow").is_file():
            self._keep("index.arrow", self._get("index.arrow"))
            self._keep("manifest.json", manifest)
        return self.folder

    def fetch(self, entry: dict[str, Any]) -> Path:
        """Local path of a shard.

        Raises:
            ValueError: its SHA-256 is not the manifest's.
        """
        path = self.folder / f"{entry['sha256'][:16]}-{entry['name']}"
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            data = self._get(entry["name"])
            if hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise ValueError(f"{self.url}/{entry['name']}: not what the manifest says; upload the set again")
            self._keep(path.name, data)
        return path

    def _get(self, name: str) -> bytes:
        try:
            return bytes(self.store.cat_file(f"{self.base}/{name}"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.url}/{name}: not there; upload a whole prepared set") from error

    def _keep(self, name: str, data: bytes) -> None:
        replace_file(self.folder / name, data)
