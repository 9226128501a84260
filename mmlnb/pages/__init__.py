"""Self-contained HTML pages: no network, open from disk."""
