"""What a profile is for the private kernel: parts of what its launcher is told."""

from __future__ import annotations

from rvisor._record import Record
from rvisor.profile import filter, promises, support

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rvisor._sentry.messages import Confinement, NetworkRule
    from rvisor.profile.model import Network, Profile


class Parts(Record):
    """`memory` in bytes, `millicpus` in thousandths; None: nothing is said of it."""

    confinement: Confinement
    memory: int | None
    millicpus: int | None
    network_rules: list[NetworkRule]
    tuned: Profile | None = None
    """The profile, if it has policies that are set in a running container."""


def parts(profile: Profile) -> Parts:
    """Raises ProfileError if the private kernel could not enforce all of it."""
    support.refuse(profile, "private")
    table = promises.table(profile, profile.table())
    confinement: Confinement = {
        "seccomp": [] if table is None else filter.compile_table(table),
        "ceiling": profile.capability_mask(),
        "rlimits": [],
    }
    limits = promises.limits(profile)
    return Parts(
        confinement=confinement,
        memory=limits.memory,
        millicpus=limits.millicpus,
        network_rules=_network(profile.network) if profile.network is not None else [],
        tuned=profile if promises.needed(profile) else None,
    )


def _network(network: Network) -> list[NetworkRule]:
    rules: list[NetworkRule] = []
    for rule in network.rules:
        nets = (rule.net,) if rule.net else _EVERYONE
        rules += [{"allow": rule.allow, "net": net, "ports": rule.ports} for net in nets]
    rules += [{"allow": network.allow, "net": net, "ports": (0, 65535)} for net in _EVERYONE]
    return rules


_EVERYONE = ("0.0.0.0/0", "::/0")
