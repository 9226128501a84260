"""H&E-like tissue drawn from findings, for demonstrations and tests."""
