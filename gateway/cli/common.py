"""What several commands share."""

from typing import Annotated

import typer

GatewayUrl = Annotated[str, typer.Option(envvar="UMI_GATEWAY", help="Where the gateway is.")]
