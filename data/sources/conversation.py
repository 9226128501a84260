"""Read one chat about a patch, as `messages` or as LLaVA and ShareGPT write `conversations`."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from data.sources.row import NAMES, FaultError, SourceRow, named_fields, text_of

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
BESIDE = tuple(name for name in NAMES if name not in ("file_name", "description"))
_PLACEHOLDER = "<image>"
_IMAGE_KEYS = ("image", "image_url", "url", "path", "file_name")


def read_messages(entry: Mapping[str, Any], where: str) -> SourceRow:
    """A row from {"messages": [{"role", "content"}, ...]}, images in the content or under "images" or "image".

    Raises:
        FaultError: not one image, one question and at most one answer.
    """
    return _read(entry, where, turns="messages", role="role", content="content")


def read_conversations(entry: Mapping[str, Any], where: str) -> SourceRow:
    """A row from {"image", "conversations": [{"from", "value"}, ...]}.

    Raises:
        FaultError: not one image, one question and at most one answer.
    """
    return _read(entry, where, turns="conversations", role="from", content="value")


def image_reference(value: object) -> str:
    """Path that a text or a mapping names as an image; `file://` is taken off.

    Raises:
        FaultError: no path, an address on the network, or pixels written into the text.
    """
    for _ in range(2):  # {"image_url": {"url": ...}}
        if isinstance(value, Mapping):
            value = next((value[key] for key in _IMAGE_KEYS if value.get(key) is not None), None)
    if not isinstance(value, str) or not value.strip():
        raise FaultError("the image has no path", "give the path of an image file")
    scheme = value[:8].lower().partition(":")[0] if ":" in value[:8] else ""
    if scheme in ("http", "https", "data"):
        kind = "holds the image itself" if scheme == "data" else "is an address on the network"
        raise FaultError(f"the image {kind}", "save it as a file and give its path")
    if scheme == "file":
        # file:///C:/x and file:///x: on Windows the first slash is not part of the path.
        path = unquote(urlsplit(value).path)
        value = path[1:] if len(path) > 2 and path[2] == ":" else path
    return text_of(value, "image")


def _read(entry: Mapping[str, Any], where: str, *, turns: str, role: str, content: str) -> SourceRow:
    given = entry[turns]
    if not isinstance(given, list):
        raise FaultError(f"{turns} is a {type(given).__name__}", f"write {turns} as a list of turns")
    said: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    images: list[object] = []
    for turn in given:
        speaker = ROLES.get(str(turn.get(role)).lower()) if isinstance(turn, Mapping) else None
        if speaker is None:
            raise FaultError(f"a turn without {role} of {', '.join(sorted(ROLES))}", "correct the turn")
        texts, inside = list[str](), list[object]()
        for kind, value in _parts(turn.get(content), content):
            (texts if kind == "text" else inside).append(value)
        said[speaker].append(" ".join(filter(None, texts)))
        images += inside
    named = _top_level(entry)
    # A placeholder in the content ({"type": "image"}) points to the images at the top level.
    paths = [image_reference(value) for value in (named or images)]
    if named and any(_has_path(value) for value in images):
        raise FaultError("images both in the content and beside it", "keep one of them")
    if len(set(paths)) != 1:
        raise FaultError(f"{len(paths)} images", "give one image for each entry")
    for speaker, least in (("user", 1), ("assistant", 0)):
        if not least <= len(said[speaker]) <= 1:
            raise FaultError(
                f"{len(said[speaker])} turns of the {speaker}", "keep one question and one answer for each patch"
            )
    return SourceRow(
        where=where,
        fault=None,
        file_name=paths[0],
        description="".join(said["assistant"]),
        question="".join(said["user"]),
        **named_fields(entry, only=BESIDE),
    )


def _top_level(entry: Mapping[str, Any]) -> list[object]:
    value = entry["images"] if entry.get("images") is not None else entry.get("image")
    return value if isinstance(value, list) else [] if value is None else [value]


def _has_path(value: object) -> bool:
    return isinstance(value, Mapping) and any(value.get(key) is not None for key in _IMAGE_KEYS)


def _parts(content: object, name: str) -> Iterator[tuple[str, Any]]:
    """("text", words) and ("image", reference) of one turn's content."""
    if content is None:
        return
    if isinstance(content, str):
        yield "text", text_of(content, name).replace(_PLACEHOLDER, " ").strip()
        return
    if not isinstance(content, list):
        raise FaultError(f"{name} is a {type(content).__name__}", f"write {name} as text or as a list of parts")
    for part in content:
        if isinstance(part, str):
            yield "text", text_of(part, name).replace(_PLACEHOLDER, " ").strip()
        elif isinstance(part, Mapping) and part.get("type") == "text":
            yield "text", text_of(part.get("text"), "text").replace(_PLACEHOLDER, " ").strip()
        elif isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
            yield "image", part
        else:
            raise FaultError("a part of the content is neither text nor an image", "leave such parts out")
