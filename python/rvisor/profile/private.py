"""What a profile, or a choice of capabilities, is for the private kernel: parts of what its launcher is told."""

from __future__ import annotations

from rvisor._record import Record
from rvisor.errors import UsageError
from rvisor.profile import filter, promises, support
from rvisor.profile.vocabulary import CAPABILITIES, DOCKER_CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

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


def capabilities(add: Sequence[str], drop: Sequence[str]) -> int:
    """The set as Linux writes it, bit n for capability n, by Docker's rules: what is dropped is taken from Docker's
    default, or from all when ALL is added; what is added is added to what is left. Raises UsageError for what is none.
    """
    wanted, unwanted = (
        {_capability(option, name) for name in names} for option, names in (("--cap-add", add), ("--cap-drop", drop))
    )
    if "ALL" in wanted:
        left = set(CAPABILITIES) - unwanted
    else:
        left = wanted | (set() if "ALL" in unwanted else DOCKER_CAPABILITIES - unwanted)
    return sum(1 << CAPABILITIES.index(name) for name in left)


def _capability(option: str, text: str) -> str:
    name = text.upper().removeprefix("CAP_")
    if name != "ALL" and name not in CAPABILITIES:
        from difflib import get_close_matches

        near = get_close_matches(name, CAPABILITIES, n=1)
        raise UsageError(
            f"{option}: {text!r} is no capability",
            hint=f"did you mean {near[0]}?" if near else "capabilities(7) lists them; ALL is every one",
        )
    return name
