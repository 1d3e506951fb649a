"""The routes that describe the interface: OpenAPI of the routes, AsyncAPI of the live messages."""

from typing import Final

from aiohttp import web

from api.routing import Routes

DOCUMENT: Final = web.AppKey("document", bytes)
"""The OpenAPI document of the routes that the application has."""

MESSAGES: Final = web.AppKey("messages", bytes)
"""The AsyncAPI document of the WebSocket channels."""

routes = Routes("interface")


@routes.get("/api/openapi.json", "application/json", role="public")
async def openapi(request: web.Request) -> web.Response:
    """Answer the OpenAPI 3.1 document of this interface."""
    return _document(request.app[DOCUMENT])


@routes.get("/api/asyncapi.json", "application/json", role="public")
async def asyncapi(request: web.Request) -> web.Response:
    """Answer the AsyncAPI 3.0 document of the WebSocket messages."""
    return _document(request.app[MESSAGES])


def _document(document: bytes) -> web.Response:
    return web.Response(
        body=document, content_type="application/json", headers={"Cache-Control": "no-cache"}
    )
