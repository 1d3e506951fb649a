"""The routes that describe the interface: the OpenAPI document and a page that shows it."""

from typing import Final

from aiohttp import web

from api.routing import Routes

DOCUMENT: Final = web.AppKey("document", bytes)
"""The OpenAPI document of the routes that the application has."""

routes = Routes("interface")


@routes.get("/api/openapi.json", "application/json", role="public")
async def openapi(request: web.Request) -> web.Response:
    """Answer the OpenAPI 3.1 document of this interface."""
    return web.Response(
        body=request.app[DOCUMENT],
        content_type="application/json",
        headers={"Cache-Control": "no-cache"},
    )
