"""Refuses members of a query that a path does not have: one with a slip in it would mean nothing, silently."""

from __future__ import annotations

from collections import Counter

from fastapi import Depends
from starlette.requests import Request

from service.core.errors import InvalidRequest
from service.rest.formats.params import shown


async def _check(request: Request) -> None:
    """Raise InvalidRequest, by name, for a member that is unknown or given twice. POST's paths look for themselves."""
    if request.method == "POST" or not request.url.query:
        return
    option_names = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in option_names:
            options = f"the options are {', '.join(option_names)}" if option_names else "this path has none"
            raise InvalidRequest(f"there is no option {shown(name)}; {options}", field=shown(name))
        if count > 1:
            raise InvalidRequest(f"{name} is given twice", field=name)


#: For `dependencies` of a router.
KNOWN_QUERY = Depends(_check)
