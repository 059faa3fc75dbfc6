"""Tests that need the embedded model's weights (`lash-nb model pull`): `pytest -m local`."""
