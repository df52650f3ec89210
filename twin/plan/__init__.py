"""Which mix should a fleet or a catalogue have? `python -m twin plan`: inputs, answer and page."""
