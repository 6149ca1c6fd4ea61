"""Access control and security headers around every request."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from casket.dashboard.answers.requests import RequestError
from casket.dashboard.http import error_page, responses
from casket.dashboard.http.access import HEADERS, Access


class AccessMiddleware:
    """Refuses requests that `Access` does not allow, and adds security headers to every response.

    Args:
        app: the wrapped application.
        access: the rules for requests.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        handler = self._app
        request = Request(scope)
        try:
            if self._shows_token(request):
                handler = self._remember(request)
            else:
                self._access.check(request.method, Headers(scope=scope))
        except RequestError as reason:
            handler = _refuse(request, reason)
        await handler(scope, receive, send_with_headers)

    def _shows_token(self, request: Request) -> bool:
        given = request.query_params.get("token")
        if request.url.path != "/" or given is None or not self._access.is_token(given):
            return False
        self._access.check_name(request.headers.get("host", ""))
        return True

    def _remember(self, request: Request) -> Response:
        """Set a cookie in exchange for the token and redirect to the URL without the token."""
        query = [pair for pair in request.query_params.multi_items() if pair[0] != "token"]
        response = RedirectResponse(f"/?{urlencode(query)}" if query else "/", status_code=303)
        response.set_cookie(
            self._access.cookie_name,
            self._access.cookie,
            httponly=True,
            samesite="strict",
            path="/",
        )
        return response


def _refuse(request: Request, reason: RequestError) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return responses.refused(request, reason)  # the client is a program
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": error_page.POLICY}
    return HTMLResponse(
        error_page.as_page(reason, request.query_params.multi_items()), reason.status, headers
    )
