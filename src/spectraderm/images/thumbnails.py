"""A photo -> a small JPEG as a data URL, for pages that must stand alone. Nothing but pixels goes along."""

import base64
import io

from PIL import Image

from spectraderm.images.decoding import decode


def data_url(photo: bytes | Image.Image, side: int) -> str:
    """A thumbnail no longer than `side` pixels of an upright RGB image, or of a photo's bytes, without any metadata.

    A photo that fits already is not enlarged. Raises `UnreadablePhoto` for bytes that can't be decoded.
    """
    image = decode(photo).image if isinstance(photo, bytes) else photo
    scale = min(1.0, side / max(image.size))
    width, height = (max(1, round(scale * length)) for length in image.size)
    small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info.clear()  # Pillow would copy a comment
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
