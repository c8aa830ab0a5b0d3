"""Two public sets, laid out and trained on: their sources and licences arrive in the report's card and in the model."""

from pathlib import Path

import pytest
from conftest import write_tinted

from spectraderm import pipeline
from spectraderm.core.run import CARD, MODEL, Run
from spectraderm.data import manifest
from spectraderm.data.importers import import_set
from spectraderm.inference.model_folder import read_model_folder
from spectraderm.training.options import Options

PER_CLASS = 10
SCIN_LABELS = {"BA-impetigo": "Impetigo", "VI-shingles": "Herpes Zoster"}


def publish(root: Path) -> dict[str, Path]:
    """Kaggle's copy of the reference with a tenth of its photos in the test folder; and SCIN, two photos a case."""
    sizes = {"kaggle/train_set": PER_CLASS - 1, "kaggle/test_set": 1, "scin/images": PER_CLASS}
    counts = {f"{folder}/{label}": n for folder, n in sizes.items() for label in SCIN_LABELS}
    write_tinted(root, counts)
    cases, labels = ["case_id,image_1_path,image_2_path"], ["case_id,weighted_skin_condition_label"]
    paths = sorted((root / "scin/images").rglob("*.jpg"))
    for number, path in enumerate(paths):
        path.rename(path.with_name(f"{number}.jpg"))
    for case in range(PER_CLASS):
        cases.append(f"{case},images/{2 * case}.jpg,images/{2 * case + 1}.jpg")
        labels.append(f"{case},{{'{SCIN_LABELS[paths[2 * case].parent.name]}': 0.9}}")
    (root / "scin/scin_cases.csv").write_text("\n".join(cases))
    (root / "scin/scin_labels.csv").write_text("\n".join(labels))
    return {"reference": root / "kaggle", "scin": root / "scin"}


@pytest.mark.usefixtures("quick_report")
def test_a_run_over_two_imported_sets_leaves_each_out(tiny: Path, tmp_path: Path) -> None:
    for name, folder in publish(tmp_path / "published").items():
        import_set(name, folder, tmp_path / name)
    run = Run(tmp_path / "run")
    options = Options(backbone=str(tiny), protocol="by-source", crops=False)
    pipeline.run([tmp_path / "reference", tmp_path / "scin"], run.folder, options)
    rows = manifest.read(run.path("manifest.csv"))
    assert {(row.source, row.label) for row in rows} == {
        (source, label) for source in ("reference", "scin") for label in SCIN_LABELS
    }
    cases = {(row.metadata["lesion"], row.photo_group) for row in rows if row.source == "scin"}
    assert len(cases) == len({case for case, _ in cases}) == PER_CLASS
    facts = read_model_folder(run.path(MODEL)).facts
    assert [own["name"] for own in facts["datasets"]] == ["reference", "scin"]
    assert [own["redistributable_training"] for own in facts["datasets"]] == [False, True]
    card = run.path(CARD).read_text(encoding="utf-8")
    assert "SCIN Data Use License" in card
    assert card.count("does not let a model that learned from it be passed on") == 1
