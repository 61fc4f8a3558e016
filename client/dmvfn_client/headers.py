"""What goes into a header or into metadata as it is: an API key, an Idempotency-Key."""

from __future__ import annotations

from dmvfn_client.errors import InvalidInput


def checked(text: str, field: str) -> str:
    """Return the text. Raises InvalidInput, naming `field`, for what no header carries: other than printable ASCII.

    Nor does one carry blanks at its ends, or none but those.
    """
    is_text = isinstance(text, str) and text.isascii() and text.isprintable()
    if not is_text or text != text.strip():
        why = f"{field} must be of ASCII letters, digits and signs; one read from a file may end with a line break"
        raise InvalidInput(why, code="invalid_request", field=field)
    return text


def bearer(api_key: str) -> str:
    """Return what authorizes a call by the key. Raises InvalidInput as `checked` does."""
    return f"Bearer {checked(api_key, 'api_key')}"
