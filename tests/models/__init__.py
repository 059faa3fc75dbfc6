"""Tests of `lash_nb.models`."""
