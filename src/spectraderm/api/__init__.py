"""The commands as functions: what `spectraderm run` does, `spectraderm.run` does, by the same names and defaults.

Each takes paths as text or `Path`, and run folders also as `Run`. What takes long is imported when it is called.
"""
