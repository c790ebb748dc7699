"""What ``keyturn.testing`` offers to a product's tests."""

from __future__ import annotations

pytest_plugins = ["keyturn.testing.fixtures"]
