"""The page at `/`: a plain form, a picture, and which pool made it. No script, nothing from elsewhere."""

import base64
import hashlib
import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from containers.serving.errors import ApiError
from containers.serving.making import Maker
from containers.serving.schema import ImageRequest, ImageResponse

_SOURCE: Final = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
_STYLES: Final = re.findall(r"<style>(.*?)</style>", _SOURCE, re.DOTALL)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLES[0].encode()).digest()).decode()
# Only the page's own style, pictures inside the page, and its own form.
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def add_page(app: FastAPI, maker: Maker) -> None:
    """Serve the page at `/`; its form posts to `/` too."""

    @app.get("/", include_in_schema=False)
    async def empty() -> HTMLResponse:
        return _page(maker)

    @app.post("/", include_in_schema=False)
    async def filled(request: Request) -> HTMLResponse:
        fields = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        given = {name: fields[name] for name in ("prompt", "seed") if name in fields}
        try:
            answer, _ = await maker.make(ImageRequest.model_validate(given), request)
        except ApiError as error:
            return _page(maker, fields, error=error.detail, status=error.status_code)
        except ValidationError as error:
            first = error.errors()[0]
            return _page(maker, fields, error=f"{first['loc'][0]}: {first['msg']}", status=400)
        return _page(maker, fields, answer=answer)


def _page(
    maker: Maker,
    fields: dict[str, str] | None = None,
    *,
    answer: ImageResponse | None = None,
    error: str = "",
    status: int = 200,
) -> HTMLResponse:
    values: dict[str, Any] = {
        "model": maker.settings.model,
        "prompt": (fields or {}).get("prompt", ""),
        "seed": (fields or {}).get("seed", ""),
    }
    text = Template(_SOURCE).substitute(
        {name: escape(str(value)) for name, value in values.items()},
        result=_picture(answer) if answer else f'<p role="alert">{escape(error)}</p>' if error else "",
    )
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(text, status, headers)


def _picture(answer: ImageResponse) -> str:
    picture = answer.data[0]
    return (
        f'<figure><img alt="the picture" src="data:image/png;base64,{picture.b64_json}">'
        f"<figcaption>seed {picture.seed}, made by pool <b>{escape(answer.pool)}</b></figcaption></figure>"
    )
