"""How does a person see that all is well, or hear that it is not? Dashboard and alarms."""
