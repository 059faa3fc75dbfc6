"""Plays scenarios of the reference machine against ours (see FORMAT.md)."""
