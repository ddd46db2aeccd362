"""Commands that only show something: settings, sources."""
