"""Reads a bucket's object by obstore, which is installed only where it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from service.object_store import s3_store
from service.settings import Settings


def read_object(url: str, settings: Settings) -> Iterator[bytes]:
    """Yield the bytes of `s3://BUCKET/KEY`. Raises OSError, or ImportError without obstore."""
    address = urlsplit(url)
    store = s3_store(address.netloc, settings)
    import obstore
    import obstore.exceptions

    try:
        for piece in obstore.get(store, address.path.lstrip("/")):
            yield bytes(piece)
    except FileNotFoundError:
        raise OSError("there is no such object") from None
    except obstore.exceptions.BaseError as error:  # its text is of several lines, and may name keys
        raise OSError(f"the object store fails: {type(error).__name__}") from error
