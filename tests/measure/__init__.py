"""The parts of ``make bench``: what is measured, each against a reference of the same run."""
