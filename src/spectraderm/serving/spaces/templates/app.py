"""A Gradio app for the model in the folder beside this file."""

from pathlib import Path

import gradio as gr

import spectraderm
from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.prediction import JUDGED, experience, promise
from spectraderm.serving.content import WORDS

MODEL = spectraderm.load_model(Path(__file__).resolve().with_name("model"))
ABOUT = [experience(MODEL.folder.facts["calibration"]), promise(MODEL.calibrations)]


def classify(photo: str | None) -> tuple[str, dict[str, float]]:
    """The file of a photo -> the verdict in words, and how probable each condition is."""
    if photo is None:
        raise gr.Error("Give a photo first")
    try:
        prediction = MODEL.predict(photo)
    except SpectraDermError as error:
        raise gr.Error(str(error), print_exception=False) from error  # or the log would name the file
    title = WORDS["verdicts"][prediction.verdict]["title"]
    if prediction.verdict not in ("predicted", "unsure"):  # a guess would mean nothing
        return f"{title}. {prediction.reason}", {}
    name = f": {prediction.display_name}" if prediction.verdict == "predicted" else ""
    shares = {MODEL.display_name(label): share for label, share in prediction.probabilities.items()}
    return f"{title}{name}. {prediction.reason} {JUDGED[prediction.calibrated_on]}", shares


app = gr.Interface(
    classify,
    gr.Image(type="filepath", image_mode=None, label="Photo"),  # the file as it came: each door answers the same
    [gr.Textbox(label="Verdict"), gr.Label(num_top_classes=3, label="How probable the likeliest are")],
    title="$title",
    description=" ".join([WORDS["notice"], WORDS["privacy"]["gradio"], *ABOUT]),
    flagging_mode="never",
    analytics_enabled=False,
    delete_cache=(60, 600),
)

if __name__ == "__main__":
    app.launch(max_file_size="16mb")
