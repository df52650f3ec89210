"""What the CDK CLI runs: settings from the context, and the stack that they describe."""

import sys

from aws_cdk import App

from infra.pins import UnknownPinError
from infra.settings import Settings, SettingsError
from infra.stack import FulcrumStack


def main() -> int:
    """Synthesize; 2 and one line on standard error where a setting, the fleet or a pin is not valid."""
    app = App()
    try:
        settings = Settings.from_context(app.node.try_get_context)
        FulcrumStack(app, settings=settings)
    except (SettingsError, UnknownPinError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
