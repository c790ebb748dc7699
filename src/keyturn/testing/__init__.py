"""For those who test programs that Keyturn licenses: recorded computers, and what the other modules here add."""
