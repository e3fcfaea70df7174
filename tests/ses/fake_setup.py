"""The part of the fake SES that keeps configuration sets and their event destinations.

What `mailer ses setup` calls, with SES's own errors. A set made here is one that mail may be sent
with; one that `Told.configuration_sets` names is here as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.ses.mailing import Refusal

if TYPE_CHECKING:
    from tests.ses.fake_ses import Told


class ConfigurationSets:
    """Each set's event destinations, by their names."""

    def __init__(self) -> None:
        self._destinations: dict[str, dict[str, dict[str, Any]]] = {}

    def answers(self, name: str) -> bool:
        return "ConfigurationSet" in name

    def answer(self, name: str, request: dict[str, Any], told: Told) -> dict[str, Any]:
        """Raises Refusal."""
        if name in told.denied:
            words = (
                f"User: arn:aws:iam::123456789012:user/x is not authorized to perform: ses:{name}"
            )
            raise Refusal(403, "AccessDeniedException", words)
        of_set = request["ConfigurationSetName"]
        if name == "CreateConfigurationSet":
            if of_set in told.configuration_sets:
                raise Refusal(400, "AlreadyExistsException", f"{of_set} exists already")
            told.configuration_sets.append(of_set)
            return {}
        if of_set not in told.configuration_sets:
            words = f"Configuration set <{of_set}> does not exist."
            raise Refusal(404, "NotFoundException", words)
        if name == "GetConfigurationSet":
            return {"ConfigurationSetName": of_set, "SendingOptions": {"SendingEnabled": True}}
        destinations = self._destinations.setdefault(of_set, {})
        if name == "GetConfigurationSetEventDestinations":
            return {"EventDestinations": [{"Name": n, **d} for n, d in destinations.items()]}
        return self._change(name, destinations, request)

    def _change(
        self, name: str, destinations: dict[str, dict[str, Any]], request: dict[str, Any]
    ) -> dict[str, Any]:
        of_destination = request["EventDestinationName"]
        creates = name == "CreateConfigurationSetEventDestination"
        if creates and of_destination in destinations:
            raise Refusal(400, "AlreadyExistsException", f"{of_destination} exists already")
        if not creates and of_destination not in destinations:
            raise Refusal(404, "NotFoundException", f"There is no {of_destination}.")
        if name == "DeleteConfigurationSetEventDestination":
            del destinations[of_destination]
        else:
            if not request["EventDestination"].get("MatchingEventTypes"):
                raise Refusal(400, "BadRequestException", "At least one event type is needed.")
            destinations[of_destination] = request["EventDestination"]
        return {}
