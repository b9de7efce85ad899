"""Pretext tasks: every module here defines one, and the registry finds it."""
