"""Texts: JSON, subtitles, tables and plain text are checked completely and stored as they are."""
