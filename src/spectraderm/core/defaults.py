"""How a run is made where nothing else is asked for. No module that takes long to import is needed to know it."""

RECIPE = "discriminant"
BACKBONE = "microsoft/resnet-50"
"""On the Hugging Face Hub: the ResNet-50 that the mission asks for."""
OFFLINE_BACKBONE = "open-nsfw-thin"
"""A half-width ResNet-50 out of a package, where the Hub can't be reached."""
