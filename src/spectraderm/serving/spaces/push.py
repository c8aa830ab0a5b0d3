"""Model folders and Spaces -> the Hugging Face Hub: checked whole first, then in one commit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectraderm.core.errors import SpectraDermError, needs
from spectraderm.inference import model_folder
from spectraderm.serving.spaces.folder import MANIFEST, read_space

_STARTERS = {".gitattributes", "README.md", "index.html", "style.css"}
"""What the Hub itself puts into a new repository."""
_WRITE = "Log in with a token that may write: hf auth login"
_REMEDIES = {
    400: "Update SpectraDerm, or write the folder again",
    401: _WRITE,
    402: "The Hub takes money for this kind of Space; static ones are free",
    403: f"Give a name of your own. {_WRITE}",
    404: "Check the name",
    409: "Someone else is changing it: try again",
    412: "Someone else changed it meanwhile: try again",
    413: "It is larger than the Hub takes",
    429: "Wait some minutes",
}


@dataclass(frozen=True)
class _Repo:
    """Where to upload: `kind` is `model` or `space`; a Space has an `sdk`. `marker` is the file that shows it ours."""

    name: str
    kind: str
    marker: str
    private: bool
    sdk: str | None = None


def push_model(folder: Path, repo_id: str, private: bool = False, token: str | None = None) -> str:
    """Upload a model folder, so that `load_model(repo_id)` opens it anywhere; returns its address.

    Args:
        folder: what `export` wrote. Only the files that it lists are uploaded.
        repo_id: `owner/name`; made where there is none. What an earlier push left there and this one lacks is deleted.
        private: only its owner sees it.
        token: of the Hub; by default the one that `hf auth login` left, or HF_TOKEN.

    Raises:
        ModelFolderError: the folder is not whole.
        SpectraDermError: the Hub refuses, does not answer, or has something else under that name.
        MissingExtra: huggingface_hub is not installed.
    """
    files = model_folder.read_model_folder(folder).files
    return _push(files, _Repo(repo_id, "model", model_folder.FACTS, private), token)


def push_space(folder: Path, repo_id: str, sdk: str, private: bool = False, token: str | None = None) -> str:
    """Upload a Space that `deploy` wrote, and return its address; see `push_model`. `sdk` is its target."""
    space = read_space(folder)
    if space.target != sdk:
        raise SpectraDermError(f"{folder} is a {space.target} Space, not a {sdk} one", "Give its own kind")
    return _push(space.files, _Repo(repo_id, "space", MANIFEST, private, sdk), token)


def _push(files: Mapping[str, bytes], repo: _Repo, token: str | None) -> str:
    if repo.name.count("/") != 1:
        raise SpectraDermError(f"{repo.name!r} is no name of a repository", "Give OWNER/NAME")
    with needs("hub", "what uploads to the Hub"):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token  # noqa: PLC0415
    if not (token or get_token()):
        raise SpectraDermError("the Hugging Face Hub takes nothing without a token", _WRITE)
    api = HfApi(token=token, library_name="spectraderm")
    with _explained(repo.name):
        url = api.create_repo(
            repo.name, repo_type=repo.kind, private=repo.private or None, exist_ok=True, space_sdk=repo.sdk
        )
        there = api.repo_info(repo.name, repo_type=repo.kind)
        stale = _stale(repo, there, set(files))
        additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
        deletions = [CommitOperationDelete(path_in_repo=name) for name in stale]
        message = f"Upload {len(files)} files with SpectraDerm"
        api.create_commit(
            repo.name, [*additions, *deletions], commit_message=message, repo_type=repo.kind, parent_commit=there.sha
        )
    return str(url)


def _stale(repo: _Repo, there: Any, ours: set[str]) -> list[str]:  # noqa: ANN401 - one of two classes, by kind
    """The files to delete of a repository that is ours, or new, and as private as it has to be."""
    if repo.private and not there.private:
        raise SpectraDermError(f"{repo.name} is there already, and public", "Make it private on the Hub, or rename")
    names = {file.rfilename for file in there.siblings or ()}
    if repo.marker not in names and not names <= _STARTERS:
        raise SpectraDermError(f"{repo.name} holds something else, such as {min(names - _STARTERS)}", "Give a new name")
    return sorted(names - ours - {".gitattributes"})


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever huggingface_hub raises, in one line: its classes differ by version, and so do its HTTP client's."""
    try:
        yield
    except SpectraDermError:
        raise
    except Exception as error:
        status = _status(error)
        said = (str(error).strip() or repr(error)).splitlines()[0]
        if status:
            remedy = _REMEDIES.get(status, "The Hub has a problem of its own: try again later")
            raise SpectraDermError(f"the Hub refuses {name} with {status} ({said})", remedy) from error
        if isinstance(error, ValueError):  # a malformed name, or a README that the Hub does not take
            raise SpectraDermError(f"the Hub does not take {name} ({said})", "Check the name") from error
        raise SpectraDermError(f"the Hub does not answer about {name} ({said})", "Check the connection") from error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error: uploads of large files wrap it."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:  # some clients' responses are false where they tell of an error
            return int(response.status_code)
        error = error.__cause__
    return None
