"""Tests of what runs in the sandbox: they need bubblewrap (`make sandbox`)."""
