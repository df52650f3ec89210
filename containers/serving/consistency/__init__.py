"""Do all units draw the same picture for the same seed? Each is held against the golden one."""
