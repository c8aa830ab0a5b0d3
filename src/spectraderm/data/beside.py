"""What is told of folders of photos beside the photos themselves, by every command that reads such folders alike.

Class folders that are spelled otherwise or are empty, what is left out of them, and the tables that lie there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from spectraderm.core.roots import Folders
from spectraderm.data.layouts import Listing, PhotoFile
from spectraderm.data.metadata import Metadata, Note, keys_of, read_metadata
from spectraderm.images.photo_files import DEBRIS, OWN, UNREAD, LeftOut, why_left_out

Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
EXAMPLES = 5
"""How many examples a finding names at most."""
Keys = dict[str, list[tuple[str, str]]]
"""Of every photo by its path, what joins it to others: a patient, a lesion."""


@dataclass(frozen=True)
class Finding:
    """One kind of flaw: how many files (or classes) have it, the first few of them, and what to do."""

    id: str
    severity: Severity
    count: int
    examples: list[str]
    remedy: str


@dataclass
class Beside:
    """What was met in one or several folders of photos; the parts are as `Listing` and `Metadata` have them."""

    unreadable: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=lambda: LeftOut(list))
    tables: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def look(self, folder: Path, photos: Sequence[str], source: str = "") -> Keys:
        """Look for empty class folders and tables in a folder with these photos; what joins the photos.

        What tables say is of the `source` alone, and its name stands before theirs.
        """
        holding = {Path(path).relative_to(folder).parts[0] for path in photos if path != str(folder)}
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        lacking = (entry for entry in entries if entry.is_dir() and entry.name not in holding)
        self.empty += [str(one) for one in lacking if not why_left_out(str(folder), one.name, is_folder=True)]
        below = f"{source}/" if source else ""
        names = {f"{below}{Path(path).relative_to(folder).as_posix()}": path for path in photos}
        files = [PhotoFile(name, Path(path).parent.name, "") for name, path in names.items()]
        listing = Listing(files, sources=[source] if source else [])
        metadata = read_metadata(Folders({source: folder}) if source else folder, listing) if photos else Metadata()
        self.tables += metadata.tables
        self.notes += metadata.notes
        return {path: keys_of(metadata.of_photo.get(name, {})) for name, path in names.items()}

    def facts(self) -> dict[str, Any]:
        """What results have of it: `unreadable`, `joined`, and as in `audit.json` `tables` and `findings`."""
        notes: dict[str, Note] = {}
        for note in (one for one in self.notes if one.examples):
            before = notes.get(note.id, note)
            notes[note.id] = note if before is note else before._replace(examples=before.examples + note.examples)
        findings = worst_first(of_folders(self.joined, self.empty, self.left_out, notes.values()))
        return {
            "unreadable": self.unreadable,
            "joined": self.joined,
            "tables": self.tables,
            "findings": [asdict(one) for one in findings],
        }

    def __add__(self, more: "Beside") -> "Beside":
        left_out = LeftOut(list, {why: self.left_out[why] + more.left_out[why] for why in (DEBRIS, OWN, UNREAD)})
        lists = ("unreadable", "joined", "empty", "tables", "notes")
        return Beside(left_out=left_out, **{name: getattr(self, name) + getattr(more, name) for name in lists})


def of_folders(
    joined: Sequence[str], empty: Sequence[str], left_out: LeftOut, notes: Iterable[Note]
) -> Iterator[Finding]:
    """The findings, those of nothing among them."""
    yield finding("unread_type", "medium", left_out[UNREAD], "Their type is not read: convert them to JPEG or PNG")
    remedy = f"{', '.join(empty[:EXAMPLES])}: no photo is read from there. Put some there, or delete it"
    yield finding("empty_class", "medium", empty, remedy)
    remedy = f"One class, spelled in several ways: {', '.join(joined[:2])}. Look whether it is"
    yield finding("joined_classes", "low", joined, remedy)
    debris = "Left there by a system or program: they were passed over"
    yield finding("debris", "low", left_out[DEBRIS], debris)
    yield finding("own_output", "low", left_out[OWN], "Written by SpectraDerm, no class: they were passed over")
    yield from (finding(*note) for note in notes)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Those of something, the worst first."""
    return sorted((one for one in findings if one.count), key=lambda one: SEVERITIES.index(one.severity))


def finding(name: str, severity: Severity, examples: Sequence[str], remedy: str) -> Finding:
    """A finding of which all examples are known."""
    return Finding(name, severity, len(examples), list(examples[:EXAMPLES]), remedy)
