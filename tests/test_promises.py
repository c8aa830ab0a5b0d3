"""What the whole package promises, held against its source."""

import ast
from pathlib import Path

import spectraderm


def test_nothing_in_the_package_reads_or_writes_a_pickle() -> None:
    banned = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    files = list(Path(spectraderm.__path__[0]).rglob("*.py"))
    assert len(files) > 20
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names}
                module = (getattr(node, "module", None) or "").split(".")[0]
                shares = module == "joblib" and names <= {"Parallel", "delayed"}  # work among processes, no files
                bad = bool(banned & (names | {module})) and not shares
                bad = bad or (module == "torch" and bool({"load", "save"} & names))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, name = ast.unparse(node.func.value), node.func.attr
                safe = any(word.arg == "allow_pickle" and ast.unparse(word.value) == "False" for word in node.keywords)
                bad = (owner == "torch" and name in ("load", "save")) or name in ("read_pickle", "to_pickle")
                bad = bad or (owner in ("np", "numpy") and name in ("load", "save", "savez") and not safe)
            else:
                continue
            found += [f"{file.name}:{node.lineno}"] * bad
    assert found == []
