"""`python -m mmlnb`."""

from mmlnb.cli import main

raise SystemExit(main())
