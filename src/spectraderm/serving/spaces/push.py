"""Model folders and Spaces -> the Hugging Face Hub: checked whole first, then in one commit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectraderm.core.errors import SpectraDermError, needs
from spectraderm.inference import model_folder
from spectraderm.serving.spaces.folder import MANIFEST, read_space

_STARTERS = {".gitattributes", "README.md", "index.html", "style.css"}
"""What the Hub itself puts into a new repository."""
_REVISION = "main"
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


def push_model(
    folder: Path, repo_id: str, private: bool = False, token: str | None = None, allow_restricted: bool = False
) -> str:
    """Upload a model folder, so that `load_model(repo_id)` opens it anywhere; returns its address.

    Args:
        folder: what `export` wrote. Only the files that it lists are uploaded.
        repo_id: `owner/name`; made where there is none. What an earlier push left there and this one lacks is deleted.
        private: only its owner sees it.
        token: of the Hub; by default the one that `hf auth login` left, or HF_TOKEN.
        allow_restricted: also where it learned from data sets whose licence does not let it be passed on.

    Raises:
        ModelFolderError: the folder is not whole.
        SpectraDermError: a licence forbids it, or the Hub refuses, does not answer, or has something else under that
            name.
        MissingExtra: huggingface_hub is not installed.
    """
    model = model_folder.read_model_folder(folder)
    if not allow_restricted:
        check_licences(model.facts)
    return _push(model.files, repo_id, model_folder.FACTS, private, token)


def check_licences(facts: Mapping[str, Any]) -> None:
    """Raise `SpectraDermError` where a model learned from a data set whose licence does not let it be passed on."""
    datasets = facts.get("datasets")
    named = [
        f"{each.get('name')} ({each.get('licence')})"
        for each in (datasets if isinstance(datasets, list) else ())
        if isinstance(each, dict) and each.get("redistributable_training") is not True
    ]
    if named:
        raise SpectraDermError(
            f"this model learned from photos whose licence does not let it be passed on: {'; '.join(named)}",
            "Train without them; or, where their owners allow it, add --allow-restricted",
        )


def push_space(folder: Path, repo_id: str, sdk: str, private: bool = False, token: str | None = None) -> str:
    """Upload a Space that `deploy` wrote, and return its address; see `push_model`. `sdk` is its target."""
    space = read_space(folder)
    if space.target != sdk:
        raise SpectraDermError(f"{folder} is a {space.target} Space, not a {sdk} one", "Give its own kind")
    return _push(space.files, repo_id, MANIFEST, private, token, sdk)


def _push(
    files: Mapping[str, bytes], name: str, marker: str, private: bool, token: str | None, sdk: str | None = None
) -> str:
    """Upload files to a repository, a Space where there is an `sdk`; `marker` is the file that shows it to be ours."""
    if name.count("/") != 1:
        raise SpectraDermError(f"{name!r} is no name of a repository", "Give OWNER/NAME")
    with needs("hub", "what uploads to the Hub"):
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token  # noqa: PLC0415
    if not (token or get_token()):
        raise SpectraDermError("the Hugging Face Hub takes nothing without a token", _WRITE)
    api, kind = HfApi(token=token, library_name="spectraderm"), "space" if sdk else "model"
    with _explained(name):
        url = api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True, space_sdk=sdk)
        there = api.repo_info(name, repo_type=kind, revision=_REVISION)
        present = {file.rfilename for file in getattr(there, "siblings", None) or ()}
        if private and not there.private:
            raise SpectraDermError(f"{name} is there already, and public", "Make it private on the Hub, or rename")
        if marker not in present and not present <= _STARTERS:
            example = min(present - _STARTERS)
            raise SpectraDermError(f"{name} holds something else, such as {example}", "Give a new name")
        stale = sorted(present - set(files) - {".gitattributes"})
        api.create_commit(
            name,
            [CommitOperationAdd(path_in_repo=file, path_or_fileobj=data) for file, data in files.items()]
            + [CommitOperationDelete(path_in_repo=file) for file in stale],
            commit_message=f"Upload {len(files)} files with SpectraDerm",
            repo_type=kind,
            revision=_REVISION,
            parent_commit=there.sha,
        )
    return str(url)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever huggingface_hub raises, in one line: its classes differ by version, and so do its HTTP client's."""
    try:
        yield
    except SpectraDermError:
        raise
    except Exception as error:
        text = (str(error).strip() or repr(error)).splitlines()[0]
        if status := _status(error):
            remedy = _REMEDIES.get(status, "The Hub has a problem of its own: try again later")
            raise SpectraDermError(f"the Hub refuses {name} with {status} ({text})", remedy) from error
        if isinstance(error, ValueError):  # a malformed name, or a README that the Hub does not take
            raise SpectraDermError(f"the Hub does not take {name} ({text})", "Check the name") from error
        raise SpectraDermError(f"the Hub does not answer about {name} ({text})", "Check the connection") from error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error: uploads of large files wrap it."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:  # some clients' responses are false where they tell of an error
            return int(response.status_code)
        error = error.__cause__
    return None
