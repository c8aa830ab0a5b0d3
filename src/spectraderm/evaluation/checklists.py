"""Two reporting checklists, paraphrased, answered from a run; what a run can't know is said to be not known."""

from spectraderm.evaluation.formatting import DASH, percent, plain, score, times
from spectraderm.evaluation.summary import Facts

UNKNOWN = "not known"
_FLAWS = ("too_small", "too_dark", "blown_out", "blank", "blurred", "not_a_photo", "extreme_aspect", "unreadable")
Answers = list[tuple[str, str]]


def clear_derm(facts: Facts) -> Answers:
    """CLEAR Derm (Daneshjou et al. 2022, JAMA Dermatology): items on data, technique, assessment and use."""
    audit, evaluation = facts["audit"], facts["evaluation"]
    return [
        ("Kind of images", "photos as found in the folder; modality (clinical, dermoscopic) not known"),
        ("Source, dates and licence of the photos", UNKNOWN),
        ("Image acquisition: cameras, settings, light", UNKNOWN),
        ("Artefacts and quality", _quality(facts)),
        ("Preprocessing", f"{_resize(facts)}; the same code in training and prediction"),
        ("Synthetic or altered images", "none made here; edited photos in the folder: not known"),
        ("Patients: how many, age, sex, place", f"{_people(facts)}; {audit['photo_groups']} different photos"),
        ("Skin tone and how it was assessed", _skin_tone(facts)),
        ("Diagnoses and how many photos of each", _classes(facts)),
        ("Ground truth: who labelled, how confirmed", f"the folders' names; {UNKNOWN} who or how; {_conflicts(facts)}"),
        ("Train/test partition", _partition(facts)),
        ("Leakage between the parts", _leakage(facts)),
        ("Selection of photos and possible bias", _shortcuts(facts)),
        ("Development: architecture and training", f"{_model(facts)}; recipe in full above"),
        (
            "Performance with uncertainty",
            f"{score(facts['believed']['group_accuracy'])}; 95 % intervals in every table",
        ),
        ("Comparison: baselines, clinicians", "four trivial baselines, see How good it is; clinicians: not compared"),
        ("External test", _external(facts)),
        ("Performance by skin tone and other groups", _groups(facts)),
        ("Confidence and photos out of scope", _refusals(facts)),
        ("Errors and what the model looks at", "the surest errors with activation maps, in the run's report.html"),
        ("Intended use and users", "research and teaching; not for diagnosis"),
        ("Limitations", "see Limits"),
        ("Availability of model, code and data", "model folder and code: yes; photos: not included"),
        ("How often the test was used", _ledger(facts)),
        ("Prospective or clinical study", f"none ({evaluation['protocol']} split of existing photos)"),
    ]


def tripod_ai(facts: Facts) -> Answers:
    """TRIPOD+AI (Collins et al. 2024, BMJ): reporting of prediction models that use machine learning."""
    believed, audit = facts["believed"], facts["audit"]
    return [
        ("Title and abstract facts", f"development and internal validation; {len(facts['classes'])} classes; see top"),
        ("Background, target population, inequalities", UNKNOWN),
        ("Objective", "name the class of a photo, or refuse"),
        ("Source of data and dates", UNKNOWN),
        ("Participants: setting, eligibility, treatments", UNKNOWN),
        ("Data preparation", f"{audit['photos']} readable photos; copies and crops grouped; {_resize(facts)}"),
        ("Outcome and how it was assessed", f"the class folder a photo lies in; assessor {UNKNOWN}"),
        ("Predictors", "the pixels alone; no history, age or body site"),
        ("Sample size", f"{audit['photos']} files, {audit['photo_groups']} photo groups; not planned beforehand"),
        ("Missing data", _missing(facts)),
        ("Analytical methods: partition", _partition(facts)),
        ("Analytical methods: model", _model(facts)),
        ("Analytical methods: performance measures", "accuracy, sensitivity, AUROC, calibration, coverage of sets"),
        ("Class imbalance", _imbalance(facts)),
        ("Fairness", _groups(facts)),
        ("Model output", _output(facts)),
        ("Training versus evaluation data", _leakage(facts)),
        ("Ethics approval and consent", UNKNOWN),
        ("Funding, conflicts, protocol, registration", UNKNOWN),
        ("Patient and public involvement", UNKNOWN),
        ("Open science: data, code", "`spectraderm reproduce RUN` repeats it, given the photos; code: Apache-2.0"),
        ("Results: participants and numbers", _classes(facts)),
        ("Results: full model", "weights and settings are in the model folder"),
        (
            "Results: performance with intervals",
            f"{score(believed['group_accuracy'])} of {believed['n_groups']} photos",
        ),
        ("Results: heterogeneity and updating", f"{_external(facts)}; no updating"),
        ("Interpretation and limitations", "see Limits"),
        ("Usability: poor input, expertise", "a quality gate refuses unusable photos; a person must decide"),
        ("Next steps", "test on photos from elsewhere with confirmed diagnoses before any use"),
    ]


def _people(facts: Facts) -> str:
    return "see the manifest's patients" if facts["patients"] else UNKNOWN


def _quality(facts: Facts) -> str:
    found = [f for f in facts["audit"]["findings"] if f["id"] in _FLAWS]
    told = ", ".join(f"{f['id'].replace('_', ' ')} {f['count']}" for f in found)
    return f"found by the audit, in files: {told or 'none'}; rulers, hair, ink, watermarks: {UNKNOWN}"


def _resize(facts: Facts) -> str:
    recipe = facts["config"]["recipe"]
    return f"{recipe['resize']} to {recipe['image_size']}x{recipe['image_size']} pixels"


def _skin_tone(facts: Facts) -> str:
    proxy = [table for table in facts["evaluation"]["subgroups"] if table["proxy"]]
    if not proxy:
        return UNKNOWN
    counts = ", ".join(f"{plain(v['value'])} {v['n_groups']}" for v in proxy[0]["values"])
    return f"{UNKNOWN} of people; a proxy read off the photos (photo groups): {counts}"


def _classes(facts: Facts) -> str:
    return ", ".join(f"{plain(c['name'])} {c['n_photos']} ({c['n_groups']} different)" for c in facts["classes"])


def _conflicts(facts: Facts) -> str:
    audit = facts["audit"]
    if "label_conflicts" not in audit:
        return f"photos that lie in two classes: {UNKNOWN}"
    return f"photos that lie in two classes: {audit['label_conflicts'] + audit.get('label_conflicts_by_crop', 0)}"


def _partition(facts: Facts) -> str:
    folds = facts["evaluation"]["folds"]
    if facts["evaluation"]["protocol"] == "original":
        return "the folders as they came"
    people = "no patient on two sides" if facts["patients"] else "patients not known"
    return f"by photo group{f', {folds} folds' if folds > 1 else ''}; {people}"


def _leakage(facts: Facts) -> str:
    own, row = facts["audit"]["leakage"], facts["believed"]
    here = f"{row['leaked']} copies in the believed test" if row["leaked"] else "none found in the believed test"
    if not own["test_photos"]:
        return here
    leaked = own["test_photos_with_copy_in_train"] + own.get("test_photos_with_crop_in_train", 0)
    return f"{leaked} of {own['test_photos']} test photos as they came; {here}"


def _shortcuts(facts: Facts) -> str:
    found = facts["audit"].get("shortcuts")
    if not found:
        return UNKNOWN
    best = max(found, key=lambda one: one["balanced_accuracy"])
    name = best["name"].replace("_", " ")
    share, chance = percent(best["balanced_accuracy"]), percent(best["chance"])
    return f"{UNKNOWN}; {name} alone tells the class in {share} (balanced; chance {chance})"


def _model(facts: Facts) -> str:
    return f"backbone {plain(facts['evaluation']['backbone'])}, recipe {plain(facts['evaluation']['recipe'])}"


def _external(facts: Facts) -> str:
    told = [f"{plain(one['name'])} {score(one['scores']['group_accuracy'])}" for one in facts["elsewhere"]]
    return ", ".join(told) if told else "not done"


def _groups(facts: Facts) -> str:
    tables = [table["column"].replace("_", " ") for table in facts["evaluation"]["subgroups"]]
    return f"by {plain(', '.join(tables))}: see For whom" if tables else UNKNOWN


def _refusals(facts: Facts) -> str:
    shares = facts["evaluation"]["refusals"]
    told = ", ".join(f"{row['name'].replace('_', ' ')} {percent(row['share']['value'])}" for row in _given(facts))
    right = shares["predicted"]["accuracy"]
    return f"{told}; right among predicted {score(right) if right else DASH}"


def _given(facts: Facts) -> list[Facts]:
    return [row for row in facts["verdicts"] if row["share"]]


def _ledger(facts: Facts) -> str:
    own = facts["ledger"]
    compared = f"; compared with {times(len(own['compared_with']), 'other run')}" if own["compared_with"] else ""
    return f"scored {times(own['opened'], 'time')}, by {times(own['models'], 'model')}{compared}"


def _missing(facts: Facts) -> str:
    unreadable = facts["audit"].get("unreadable")
    return UNKNOWN if unreadable is None else f"{len(unreadable)} unreadable photos left out"


def _imbalance(facts: Facts) -> str:
    counts = [c["n_groups"] for c in facts["classes"]]
    weighed = facts["config"]["recipe"]["weighting"]
    return f"{max(counts)} to {min(counts)} photo groups a class; training weighs each {weighed} alike"


def _output(facts: Facts) -> str:
    asked = facts["calibration"]
    return f"calibrated probabilities, sets at {percent(asked['coverage'])} coverage, novelty, a verdict"
