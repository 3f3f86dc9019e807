"""What can go wrong with containers, in our own terms. All of it is `infra`: trouble of the surroundings, retried."""

from __future__ import annotations

from lemctl.errors import RunFailed


class ContainerFault(RunFailed):
    """A call to the container engine failed; `detail` holds what the engine said."""

    def __init__(self, message: str, detail: str = ""):
        super().__init__("infra", message, detail)


class EngineUnavailable(ContainerFault):
    """No container engine answers, or it did not answer in time."""


class ImageMissing(ContainerFault):
    """The image is not in the engine's store; it is never pulled while a campaign runs."""


class ContainerGone(ContainerFault):
    """The container does not exist (any more)."""
