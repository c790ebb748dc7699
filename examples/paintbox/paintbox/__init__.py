"""Paintbox draws pictures. The window to Keyturn is ``app``; drawing knows nothing of licenses."""
