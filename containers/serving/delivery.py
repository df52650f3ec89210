"""How a finished picture gets into its answer: as Base64, as a data URL, or in S3 with a URL to it."""

import base64
import uuid
from functools import cached_property
from typing import Any

from PIL.Image import Image

from containers.serving import files
from containers.serving.backends.protocol import Picture
from containers.serving.schema import ImageData, PictureRequest
from containers.serving.settings import Settings


class Delivery:
    """Encodes pictures as their request wants them. Any thread may call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encoded(self, image: Image, picture: Picture, request: PictureRequest) -> bytes:
        """The picture as a file."""
        return files.encode(
            image,
            picture,
            kind=file_format(request),
            quality=request.output_compression,
            model=self._settings.model,
            pool=self._settings.pool,
        )

    def delivered(self, image: Image, picture: Picture, request: PictureRequest) -> ImageData:
        """The picture as its answer holds it."""
        file = self.encoded(image, picture, request)
        if request.answer_format == "b64_json":
            return ImageData(b64_json=base64.b64encode(file).decode("ascii"), seed=picture.seed)
        return ImageData(url=self._url(file, file_format(request)), seed=picture.seed)

    def _url(self, file: bytes, kind: str) -> str:
        if not self._settings.image_bucket:
            return f"data:image/{kind};base64,{base64.b64encode(file).decode('ascii')}"
        place = {
            "Bucket": self._settings.image_bucket,
            "Key": f"{self._settings.image_prefix}/{uuid.uuid4()}.{kind}",
        }
        self._s3.put_object(**place, Body=file, ContentType=f"image/{kind}")
        url: str = self._s3.generate_presigned_url(
            "get_object", Params=place, ExpiresIn=self._settings.image_url_seconds
        )
        return url

    @cached_property
    def _s3(self) -> Any:
        import boto3  # noqa: PLC0415 - only servers that store pictures need it

        return boto3.client("s3")


def file_format(request: PictureRequest) -> str:
    """The kind of file that a request wants."""
    return request.output_format or "png"
