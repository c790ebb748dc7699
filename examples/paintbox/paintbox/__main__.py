"""``python -m paintbox``."""

from paintbox.app import main

raise SystemExit(main())
