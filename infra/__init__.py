"""What does AWS have to hold for a fleet, and what does it cost? The stack and what surrounds a deploy."""
