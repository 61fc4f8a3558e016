"""Opens buckets of S3-compatible services, which is what `s3://` means wherever a setting or an argument says it."""

from __future__ import annotations

from typing import Any

from service.settings import Settings

WITHOUT_OBSTORE = "s3://... needs the package obstore: pip install 'dmvfn-service[s3]'"


def s3_store(bucket: str, settings: Settings, prefix: str = "") -> Any:
    """Open a bucket by obstore, with the endpoint and keys of the settings. Raises ImportError without obstore."""
    try:
        from obstore.store import S3Store
    except ImportError:
        raise ImportError(WITHOUT_OBSTORE) from None
    options: dict[str, Any] = {
        "endpoint": settings.object_store_endpoint,
        "region": settings.object_store_region,
        "access_key_id": settings.object_store_key_id,
        "secret_access_key": settings.object_store_secret,
    }
    if settings.object_store_endpoint.startswith("http://"):
        options["client_options"] = {"allow_http": True}
    nonempty = {name: value for name, value in options.items() if value}
    return S3Store(bucket, prefix=prefix or None, **nonempty)
