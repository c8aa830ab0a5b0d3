"""What a Hugging Face Space is made of: the model, the sources that serve it, what they install, and its card."""
