from pathlib import Path

import pytest
from handmade import LABELS, Said, leaking_run, write_fold

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import read_csv
from spectraderm.core.run import LEDGER, Run
from spectraderm.evaluation import ledger


def test_every_use_of_the_test_photos_is_counted(tmp_path: Path) -> None:
    run = Run(leaking_run(tmp_path))
    assert ledger.summary(run) == {"opened": 0, "first": None, "models": 0, "compared_with": []}
    ledger.write(run, ledger.entry(run, "evaluate"))
    first = ledger.summary(run)
    ledger.write(run, ledger.entry(run, "compare", "runs/b"))
    ledger.write(run, ledger.entry(run, "compare", "runs/a, again"))
    ledger.write(run, ledger.entry(run, "compare", "runs/b"))
    got = ledger.summary(run)
    assert (first["opened"], got["opened"], got["models"]) == (1, 4, 1)
    assert got["first"] == first["first"]
    assert got["compared_with"] == ["runs/a, again", "runs/b"]
    line = read_csv(run.path(LEDGER), ledger.COLUMNS, "")[1]
    assert (line["what"], line["with"], len(line["logits_sha256"])) == ("compare", "runs/b", 64)
    assert line["when"].endswith("+00:00")
    write_fold(run.fold("final").folder, [Said("a.jpg", 0, "test", LABELS[0], LABELS[1])])
    ledger.write(run, ledger.entry(run, "evaluate"))
    assert ledger.summary(run)["models"] == 2
    with pytest.raises(RunFolderError, match="spectraderm train RUN"):
        ledger.entry(Run(tmp_path / "untrained"), "evaluate")


def test_a_column_that_somebody_added_is_no_obstacle(tmp_path: Path) -> None:
    run = Run(leaking_run(tmp_path))
    ledger.write(run, ledger.entry(run, "run"))
    path = run.path(LEDGER)
    head, line = path.read_text().splitlines()
    path.write_text(f"{head},note\n{line},mine\n")
    ledger.write(run, ledger.entry(run, "evaluate"))
    assert ledger.summary(run)["opened"] == 2


def test_a_damaged_ledger_is_not_written_over(tmp_path: Path) -> None:
    run = Run(leaking_run(tmp_path))
    (run.path(LEDGER)).write_text("when,what\n1,2\n")
    for use in (ledger.summary, lambda run: ledger.write(run, ledger.entry(run, "run"))):
        with pytest.raises(RunFolderError, match=r"test_ledger\.csv has no column"):
            use(run)
    assert (run.path(LEDGER)).read_text() == "when,what\n1,2\n"
