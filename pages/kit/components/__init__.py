"""The app's own browser parts: each a Python file here and a script and style sheet in `assets/components`."""
