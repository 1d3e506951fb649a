"""The pages at `/` and `/api/docs`: plain files, no build step, nothing from another host."""

from typing import Final

from aiohttp import web

from api.routing import Routes
from runtime.settings import PROJECT_ROOT

WEB_FOLDER: Final = PROJECT_ROOT / "web"

_PAGES: Final = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/client.js": ("client.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
    "/scenes.js": ("scenes.js", "text/javascript"),
    "/services.js": ("services.js", "text/javascript"),
    "/unverified.js": ("unverified.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/api/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
    "/docs.css": ("docs.css", "text/css"),
}

routes = Routes("pages")


@routes.get("/", "text/html", role="public", documented=False)
@routes.get("/app.js", "text/html", role="public", documented=False)
@routes.get("/client.js", "text/html", role="public", documented=False)
@routes.get("/page.js", "text/html", role="public", documented=False)
@routes.get("/scenes.js", "text/html", role="public", documented=False)
@routes.get("/services.js", "text/html", role="public", documented=False)
@routes.get("/unverified.js", "text/html", role="public", documented=False)
@routes.get("/style.css", "text/html", role="public", documented=False)
@routes.get("/api/docs", "text/html", role="public", documented=False)
@routes.get("/docs.js", "text/html", role="public", documented=False)
@routes.get("/docs.css", "text/html", role="public", documented=False)
async def page(request: web.Request) -> web.StreamResponse:
    """Answer a file of the page; a browser asks again each time whether it has changed."""
    name, content_type = _PAGES[request.path]
    return web.FileResponse(
        WEB_FOLDER / name,
        headers={"Cache-Control": "no-cache", "Content-Type": f"{content_type}; charset=utf-8"},
    )
