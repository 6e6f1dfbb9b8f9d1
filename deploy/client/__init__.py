"""A small client of an endpoint or of a local `serve`: `from deploy.client import NcfClient`."""

from deploy.client.client import NcfClient
from deploy.client.results import AskError, Item, Recommendations
from deploy.client.transports import Answer, Pending

__all__ = ["Answer", "AskError", "Item", "NcfClient", "Pending", "Recommendations"]
