"""What will it cost, and would a deploy succeed? Asked before anything is created; both only read."""
