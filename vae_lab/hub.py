"""Files of a Hugging Face Hub repository: downloaded to its local cache, or only their headers read."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .weight_files import read_index


class Hub(NamedTuple):
    """One repository on the Hub, and how it is asked."""

    repo_id: str
    subfolder: str | None
    revision: str | None
    local_files_only: bool

    def fetch(self, filename: str) -> Path | None:
        """A file in the local cache, downloaded where need be; None where the repository has no such file."""
        from huggingface_hub import hf_hub_download

        with self._errors(filename):
            return Path(
                hf_hub_download(
                    self.repo_id, filename, subfolder=self.subfolder, revision=self.revision,
                    local_files_only=self.local_files_only,
                )
            )  # fmt: skip
        return None

    def fetch_weights(self, name: str) -> None:
        """The weight file of that name, or all shards of its index."""
        if self.fetch(name) is None:
            for shard in self._read_index(name):
                if self.fetch(shard) is None:
                    raise FileNotFoundError(f"{self.repo_id} has no {shard}, which its index names")

    def read_headers(self, name: str) -> tuple[list[str], dict[str, tuple[int, ...]], dict[str, int]]:
        """File names, shapes and types, from the first bytes of the weight file or of each shard."""
        names = [name]
        headers = [self._header(name)]
        if headers == [None]:
            names = self._read_index(name)
            headers = [self._header(shard) for shard in names]
        tensors = {key: info for header in headers for key, info in header.tensors.items()}
        dtypes = Counter(info.dtype for info in tensors.values())
        return names, {key: tuple(info.shape) for key, info in tensors.items()}, dict(dtypes)

    def _header(self, filename: str):
        from huggingface_hub import HfApi

        path = f"{self.subfolder}/{filename}" if self.subfolder else filename
        with self._errors(filename):
            return HfApi().parse_safetensors_file_metadata(self.repo_id, path, revision=self.revision)
        return None

    def _read_index(self, name: str) -> list[str]:
        index = self.fetch(f"{name}.index.json")
        if index is None:
            raise FileNotFoundError(f"{self.repo_id} has no {name}")
        return [shard.name for shard in read_index(index)]

    @contextmanager
    def _errors(self, filename: str) -> Iterator[None]:
        """Say what failed; a file that the repository does not have passes silently."""
        from huggingface_hub import errors

        try:
            yield
        except errors.LocalEntryNotFoundError as error:
            if self.local_files_only:
                raise FileNotFoundError(
                    f"{filename} of {self.repo_id} is not in the local cache; "
                    "call without local_files_only to download it"
                ) from error
            raise OSError(f"cannot download {filename} of {self.repo_id}: {error}") from error
        except errors.RemoteEntryNotFoundError:
            pass
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                f"no checkpoint {self.repo_id}: neither a folder or file here nor a repository on the Hub, nor one of "
                '"lab" and "lab-frame-group"'
            ) from error
        except errors.HFValidationError as error:
            raise ValueError(f"{self.repo_id!r} is no Hub id: {error}") from error
        except Exception as error:  # the HTTP client's own errors: a refused connection, a transfer cut off, …
            raise OSError(f"cannot download {filename} of {self.repo_id}: {type(error).__name__}: {error}") from error
