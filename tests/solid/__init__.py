"""The service under concurrency, faults and attack: what the campaigns and ``show_solid`` share."""
