"""Views: expectations are written by hand."""
