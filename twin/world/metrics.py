"""When the world's metrics can be seen."""

from typing import Final

# Load balancer metrics come 1 to 3 minutes after the minute that they count: two, here.
LATE_SECONDS: Final = 120
