"""Routes and whom they let in: one declaration says both, so that no route can forget to ask."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute

from evalforge.core.callers import Role
from evalforge.errors import MissingRoleError
from evalforge.events import emit
from evalforge.service import schema
from evalforge.service.auth import Callers, caller_of, tell_refused

Endpoint = TypeVar("Endpoint", bound=Callable[..., Coroutine[Any, Any, Response]])

_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Open(StrEnum):
    """Whom a route lets in that needs no role."""

    UNASKED = "everybody, unasked"
    ANYONE = "everybody; callers are told more"
    CALLERS = "any caller"


@dataclass(frozen=True, slots=True, eq=False)
class Door:
    """One route: method, path, whom it lets in, what serves it, and how the OpenAPI document tells it."""

    method: str
    path: str
    lets_in: Role | Open
    endpoint: Callable[..., Coroutine[Any, Any, Response]]
    answers: Mapping[int | str, dict[str, Any]]
    extra: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    async def __call__(self, request: Request) -> None:
        """Lets the request pass.

        Raises:
            MissingRoleError: the caller has not the role that this route needs.
        """
        if not isinstance(self.lets_in, Role):
            return
        caller = caller_of(request)
        callers: Callers = request.app.state.callers
        if caller is None or self.lets_in not in caller.roles:
            tell_refused(request.scope, callers, "missing_role")
            raise MissingRoleError(self.lets_in)
        if callers.are_declared and self.method not in _SAFE_METHODS:
            emit("caller.admitted", request_id=request.state.request_id, route=self.path, caller=caller.name)

    @property
    def common_answers(self) -> dict[int | str, dict[str, Any]]:
        """What any route of this kind may answer, whatever it does."""
        kinds = [schema.ANY_ANSWERS]
        if self.lets_in not in (Open.UNASKED, Open.ANYONE):
            kinds.append(schema.CALLER_ANSWERS)
        if isinstance(self.lets_in, Role):
            kinds.append(schema.ROLE_ANSWERS)
        if self.method not in _SAFE_METHODS:
            kinds.append(schema.BODY_ANSWERS)
        return {status: answer for kind in kinds for status, answer in kind.items()}

    @property
    def security(self) -> list[dict[str, list[str]]]:
        """The credentials that the route takes, as the OpenAPI document says it; an empty row means none is needed."""
        if self.lets_in is Open.UNASKED:
            return []
        nothing: list[dict[str, list[str]]] = [{}] if self.lets_in is Open.ANYONE else []
        return nothing + [{name: []} for name in schema.SECURITY_SCHEMES]


class Routes:
    """Routes of the service, those of `others` first. There is no way to declare one without saying whom it lets in."""

    def __init__(self, *others: Routes) -> None:
        self.doors: list[Door] = [door for one in others for door in one.doors]

    def add(
        self,
        method: str,
        path: str,
        *,
        lets_in: Role | Open,
        answers: Mapping[int | str, dict[str, Any]],
        extra: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Callable[[Endpoint], Endpoint]:
        """Declares what serves `method` on `path`; `options` are FastAPI's, `extra` goes into the OpenAPI document."""

        def declared(endpoint: Endpoint) -> Endpoint:
            self.doors.append(Door(method, path, lets_in, endpoint, answers, extra or {}, options))
            return endpoint

        return declared

    def paths(self, *lets_in: Open) -> frozenset[str]:
        """The paths of the routes that let these in."""
        return frozenset(door.path for door in self.doors if door.lets_in in lets_in)

    def add_to(self, app: FastAPI) -> None:
        """Makes every declared route one of `app`'s.

        Raises:
            TypeError: `app` has a route that was not declared here; it would ask nobody for a role.
        """
        for door in self.doors:
            app.add_api_route(
                door.path,
                door.endpoint,
                methods=[door.method],
                dependencies=[Depends(door)],
                responses={**door.common_answers, **door.answers},
                openapi_extra={**door.extra, "security": door.security, "x-lets-in": str(door.lets_in)},
                **door.options,
            )
        undeclared = routes_without_door(app.routes)
        if undeclared:
            raise TypeError(f"these routes ask nobody for a role: {', '.join(undeclared)}")


def routes_without_door(routes: Iterable[BaseRoute]) -> list[str]:
    """The routes that were added in another way than by a `Door`."""
    return [
        getattr(route, "path", type(route).__name__)
        for route in routes
        if not (isinstance(route, APIRoute) and any(isinstance(one.dependency, Door) for one in route.dependencies))
    ]
