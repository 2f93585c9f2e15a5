"""Reading the official archives of a data set: downloaded, or given by the user."""

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import requests
import tensorflow_datasets as tfds

from gconv.data.builders.base import TREES, Builder
from gconv.errors import UserError, one_line
from gconv.progress import say


class ArchiveBuilder(Builder, skip_registration=True):  # type: ignore[call-arg]
    """A builder whose data comes in one tar archive, streamed and never unpacked to disk.

    Set `source` to a folder that holds the archive, beside a release or in it, to read it from there; otherwise it is
    downloaded and must have the checksum in `checksums.tsv`.
    """

    URL: str

    @classmethod
    def find(cls, source: Path) -> Path | None:
        paths = [source / tree / cls.URL.rsplit("/", 1)[1] for tree in reversed(TREES)]
        return next((path for path in paths if path.is_file()), None)

    def _archive(self, dl_manager: tfds.download.DownloadManager) -> Path:
        if self.source is None:
            tfds.enable_progress_bar()
            try:
                requests.head(self.URL, timeout=20)  # TFDS itself tries for minutes before it says there is no network
                path = Path(dl_manager.download(self.URL))
            except Exception as error:
                raise UserError(f"{self.name}: downloading {self.URL} failed: {one_line(error)}") from error
            finally:
                tfds.disable_progress_bar()
        else:
            found = self.find(self.source)
            if found is None:
                path = self.source / self.URL.rsplit("/", 1)[1]
                raise UserError(f"{self.name}: {path} not found; --source must hold the archive from {self.URL}")
            path = found
        sha256 = _sha256(path)
        self.origin = f"{self.URL} (sha256 {sha256})"
        if sha256 != self.url_infos[self.URL].checksum:
            if self.source is None:  # an earlier download that has changed since
                path.unlink()
                raise UserError(f"{self.name}: {path} had the wrong checksum and was removed; run the command again")
            say(f"{self.name}: {path} is not the official archive (sha256 differs); checking its content instead")
        return path


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of the regular files in a tar archive. UserError if it is damaged or cut off."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None  # no link is followed
                if stream is not None:
                    yield member.name, stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} is damaged or cut off: {one_line(error)}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
