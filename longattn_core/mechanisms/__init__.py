"""One file a mechanism, each readable from top to bottom; the registry finds them by walking this folder."""
