"""The Space: the server and its page, for the model in the folder beside this file."""

import os
from pathlib import Path

from spectraderm.serving.server import ServeOptions, serve

if __name__ == "__main__":  # its engine processes import this file, too
    serve(
        ServeOptions(
            model=str(Path(__file__).resolve().with_name("model")),
            host="0.0.0.0",  # noqa: S104 - a Space is asked from outside
            port=int(os.environ.get("PORT", "7860")),
            workers=int(float(os.environ.get("CPU_CORES", "0"))),  # a Space says how many of the machine are its own
        )
    )
