"""The page for a refused request, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from casket.dashboard import page
from casket.dashboard.answers.requests import RequestError

_STYLE = "body{max-width:40em;margin:4em auto;padding:0 1em;font:16px/1.5 system-ui,sans-serif}"

POLICY = (
    f"default-src 'none'; style-src {page.digest(_STYLE)}; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""The content security policy of the error page."""

_WHERE_IT_IS = (
    "The whole address was printed in the terminal where <code>casket dashboard</code> was started."
)


Query = Sequence[tuple[str, str]]


def as_page(refusal: RequestError, query: Query) -> str:
    """Return a page that explains the refusal and how to get access.

    Args:
        refusal: the error to show.
        query: the query of the URL.
    """
    asked = _token_form(query) if refusal.parameter == "token" else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8" />'
        '<meta name="viewport" content="width=device-width" />'
        f"<title>casket</title><style>{_STYLE}</style></head>"
        f"<body><h1>Not shown</h1><p>{_reason(refusal, query)}</p><p>{_WHERE_IT_IS}</p>"
        f"{asked}</body></html>"
    )


def _reason(refusal: RequestError, query: Query) -> str:
    if refusal.parameter != "token":
        message = str(refusal)
        return escape(f"{message[:1].upper()}{message[1:]}.")
    if "token" in dict(query):
        return "The token in this address is not that of this dashboard, which may have begun anew."
    return "This dashboard is shown to those only who know its token: open its address with it."


def _token_form(query: Query) -> str:
    """Return a form for the token that preserves the other query parameters."""
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}" />'
        for name, value in query
        if name != "token"
    )
    return (
        f'<form action="/">{kept}<label>Token <input name="token" required '
        'autofocus autocomplete="off" /></label> <button>Open</button></form>'
    )
