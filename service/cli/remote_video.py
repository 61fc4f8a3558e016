"""`python -m service video FOLDER -o FOLDER --server URL`: clips, of a bucket, too, that a service's workers predict.

Run again after it was stopped, it goes on: clips that are there are not sent, those that the server has are asked for,
and what its workers have predicted they do not predict again.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, TextIO
from urllib.parse import urlencode

from service.cli.clip_inputs import S3, ClipBucket, ClipInput, FileInput, ObjectInput, S3Bucket
from service.cli.clip_server import ClipServer
from service.serving.video.clip import VideoError
from service.settings import Settings

#: What a server answers with, by a clip's ending; another one becomes MP4.
MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".y4m": "video/x-yuv4mpeg2",
}
#: What is sent, of a folder.
SENT = (*MEDIA_TYPES, ".m4v", ".mov", ".avi", ".ts", ".mpg")
#: Remembers, in the folder that is written, which clips the server has.
NOTES = ".dmvfn-clips.json"
#: A job's id, which is put into paths.
_JOB_ID = re.compile(r"[\w-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RemoteClip:
    """One clip: what it is called, where it is, and where it goes. `note`: its name among the notes."""

    name: str
    source: ClipInput
    output: Path
    note: str

    @property
    def media_type(self) -> str:
        """Return what is asked for, by the output's ending."""
        return MEDIA_TYPES[self.output.suffix.lower()]


class ClipNotes:
    """What was sent, clip by clip: {"key": of its bytes and options, "job": its path, "done": it was fetched}.

    "written": another clip, or the same one with other options, was fetched under this name before.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        try:
            self._clips: dict[str, dict[str, Any]] = json.loads(path.read_text())
        except (OSError, ValueError):
            self._clips = {}

    def of(self, clip: RemoteClip, key: str) -> dict[str, Any]:
        """Return the notes of a clip; empty where others were taken, of other bytes or options."""
        with self._lock:
            notes = self._clips.get(clip.note, {})
            return dict(notes) if notes.get("key") == key else {}

    def has_written(self, clip: RemoteClip) -> bool:
        """Tell whether a run wrote the file that is at the clip's place, if one is there."""
        with self._lock:
            notes = self._clips.get(clip.note, {})
            return bool(notes.get("done") or notes.get("written"))

    def write(self, clip: RemoteClip, **notes: Any) -> None:
        """Take notes of a clip."""
        is_written = self.has_written(clip)
        with self._lock:
            self._clips[clip.note] = {**notes, "written": True} if is_written else notes
            part = self._path.with_name(self._path.name + ".part")
            part.write_text(json.dumps(self._clips))
            part.replace(self._path)


@dataclass
class FolderProgress:
    """Counts what is done of all clips; `line` describes it. `total` clips; `clock` in seconds."""

    total: int
    clock: Callable[[], float] = time.monotonic
    ended: int = 0
    frames: dict[str, tuple[int, int]] = field(default_factory=dict)  #: clip -> done, of how many
    _began: float = field(init=False)
    _before: int | None = None  #: frames that were done when the first news came

    def __post_init__(self) -> None:
        self._began = self.clock()

    def line(self) -> str:
        """Describe the progress in one line."""
        done_count, total = (sum(pair[k] for pair in self.frames.values()) for k in (0, 1))
        if self._before is None and total:
            self._before = done_count
        text = f"{_bar(self.ended, self.total)} {self.ended}/{self.total} clips, {done_count} frames"
        speed = (done_count - (self._before or 0)) / max(self.clock() - self._began, 1e-9)
        if speed > 0:
            text += f", {speed:.1f} a second"
            # Of clips that are not begun nothing is known: they are taken to be like the others.
            missing = total / max(1, len(self.frames)) * self.total - done_count
            seconds = max(0, round(missing / speed))
            text += f", about {seconds // 60}:{seconds % 60:02} left"
        return text


def _bar(count: int, total: int, width: int = 20) -> str:
    bar_length = width * count // max(1, total)
    return f"[{'#' * bar_length}{'.' * (width - bar_length)}]"


class RemoteFolder:
    """Sends clips to a server and writes what comes back; `force`: also over files that no run has written."""

    def __init__(
        self,
        server: ClipServer,
        query: dict[str, str],
        notes: ClipNotes,
        stop: threading.Event,
        *,
        force: bool = False,
    ) -> None:
        self._server, self._query, self._notes, self._stop, self._force = server, query, notes, stop, force

    def run(self, clips: list[RemoteClip], at_once: int, out: TextIO | None) -> list[str]:
        """Make all clips, `at_once` of them together; return a line for each that failed. `out` shows the progress."""
        progress, failures = FolderProgress(len(clips)), list[str]()

        def make(clip: RemoteClip) -> None:
            try:
                self._make(clip, progress)
            except (VideoError, OSError) as error:
                if not self._stop.is_set():
                    failures.append(f"{clip.name}: {error}")
            progress.ended += 1

        with ThreadPoolExecutor(at_once) as pool:
            pending = {pool.submit(make, clip) for clip in clips}
            try:
                while pending:
                    _, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                    if out is not None:
                        _show(progress.line(), out)
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if out is not None and out.isatty():
            print(file=out)
        return sorted(failures)

    def _make(self, clip: RemoteClip, progress: FolderProgress) -> None:
        key = _key(clip, self._query)
        notes = self._notes.of(clip, key)
        if notes.get("done") and clip.output.exists():
            return
        if clip.output.exists() and not (self._force or self._notes.has_written(clip)):
            raise VideoError(f"{clip.output} exists already; --force overwrites it")
        job = notes.get("job")
        while True:
            job = job or self._sent(clip, key)
            reply = self._server.get(job)
            while reply.status != 404 and reply.document.get("state") in ("queued", "running"):
                document = reply.document
                progress.frames[clip.name] = int(document.get("done") or 0), int(document.get("items") or 0)
                reply = self._server.get(job, wait=True)
            if reply.status != 404:
                break
            job = None  # the server has it no more: sent again
        if reply.document.get("state") != "done":
            self._notes.write(clip, key=key)  # another run sends it again
            self._server.delete(job)
            raise VideoError(str(reply.document.get("error", {}).get("message") or reply.document.get("state")))
        frames = int(reply.document.get("done") or 0)
        progress.frames[clip.name] = frames, frames
        self._fetched(clip, job)
        self._notes.write(clip, key=key, done=True)
        self._server.delete(job)

    def _sent(self, clip: RemoteClip, key: str) -> str:
        headers = {"Accept": clip.media_type, "Idempotency-Key": key}
        with clip.source.on_disk(clip.output.parent) as file:
            reply = self._server.post(urlencode(self._query), file, headers, clip.source.name)
        # Not Location: a proxy that takes a prefix from paths may have put that in front of it, or its own address.
        ident = reply.document.get("id")
        if "location" not in reply.headers or not (isinstance(ident, str) and _JOB_ID.fullmatch(ident)):
            raise VideoError("the server takes no clips as jobs")
        job = f"/v1/video/{ident}"
        self._notes.write(clip, key=key, job=job)
        return job

    def _fetched(self, clip: RemoteClip, job: str) -> None:
        """Write the result, which gets its name when it is whole."""
        clip.output.parent.mkdir(parents=True, exist_ok=True)
        part = clip.output.with_name(f".{clip.output.name}.part")
        try:
            with part.open("wb") as file:
                self._server.fetch(job, file)
            part.replace(clip.output)
        finally:
            part.unlink(missing_ok=True)


def _show(line: str, out: TextIO) -> None:
    if out.isatty():
        print(f"\r{line:<78}", end="", file=out, flush=True)


def _key(clip: RemoteClip, query: dict[str, str]) -> str:
    """Hash a clip and what is asked of it: the same clip is the same job, whenever it is sent."""
    digest = clip.source.digest()
    digest.update(json.dumps([sorted(query.items()), clip.media_type, clip.source.name]).encode())
    return str(digest.hexdigest())


def clips_of(source: Path, output: Path) -> list[RemoteClip]:
    """List the clips of a folder, or the one clip, with their outputs. VideoError where there are none."""
    if not source.exists():
        raise VideoError(f"cannot read {source}: it is not there")
    if not source.is_dir():
        return [_alone(FileInput(source), output)]
    # What an earlier run wrote may be in a folder within.
    files = [path for path in source.rglob("*") if path.is_file() and output.resolve() not in path.resolve().parents]
    return _named(str(source), {str(path.relative_to(source)): FileInput(path) for path in files}, output)


def clips_in(bucket: ClipBucket, output: Path) -> list[RemoteClip]:
    """List the clips below a bucket's address, or the one clip that it names, as `clips_of`."""
    tags = bucket.tags()
    if "" in tags:
        return [_alone(ObjectInput(bucket, "", tags[""]), output)]
    return _named(bucket.address, {name: ObjectInput(bucket, name, tag) for name, tag in tags.items()}, output)


def _alone(source: ClipInput, output: Path) -> RemoteClip:
    if output.suffix.lower() not in MEDIA_TYPES:
        raise VideoError(f"{output.name}: the name must end in {', '.join(MEDIA_TYPES)}")
    return RemoteClip(source.name, source, output, output.name)


def _named(place: str, sources: Mapping[str, ClipInput], output: Path) -> list[RemoteClip]:
    """Give each clip among `sources`, by the names below their place, its output; VideoError where there are none."""
    clips = []
    for name in sorted(sources, key=PurePath):
        path = PurePath(name)
        if path.suffix.lower() not in SENT or any(part.startswith(".") for part in path.parts):
            continue
        suffix = path.suffix if path.suffix.lower() in MEDIA_TYPES else ".mp4"
        clips.append(RemoteClip(name, sources[name], output / path.with_suffix(suffix), name))
    if not clips:
        raise VideoError(f"{place} holds no clips ({', '.join(SENT)})")
    if len({clip.output for clip in clips}) < len(clips):
        raise VideoError(f"two clips of {place} would be written under one name; rename one")
    return clips


def _key_of(key_file: str) -> str:
    """Read an API key from a file. Raises OSError where there is none, VideoError where it holds something else."""
    try:
        key = Path(key_file).read_text(encoding="utf-8-sig").strip()  # Windows' editors begin with a mark
    except UnicodeDecodeError:
        key = ""
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise VideoError(f"{key_file} holds no API key: one word of ASCII letters, digits and signs")
    return key


def _telling(out: TextIO | None) -> Callable[[str], None]:
    """Return what writes a line to `out`, each text once, whichever clip's thread says it."""
    texts = set[str]()

    def tell(text: str) -> None:
        if out is not None and text not in texts:
            texts.add(text)
            print(f"\rvideo: {text}" if out.isatty() else f"video: {text}", file=out, flush=True)

    return tell


def run(
    url: str,
    key_file: str | None,
    source: str,
    output: str,
    query: dict[str, str],
    at_once: int,
    settings: Settings,
    *,
    quiet: bool,
    force: bool,
) -> int:
    """Make the clips; return 0, or 1 where some failed, each told in a line on standard error."""
    stop, target = threading.Event(), Path(output)
    clips = clips_in(S3Bucket(source, settings), target) if source.startswith(S3) else clips_of(Path(source), target)
    is_one = [clip.output for clip in clips] == [target]
    folder, out = target.parent if is_one else target, None if quiet else sys.stderr
    try:
        server = ClipServer(url, _key_of(key_file) if key_file else None, stop=stop, tell=_telling(out))
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(f"cannot use {error.filename}: {error.strerror}") from error
    remote = RemoteFolder(server, query, ClipNotes(folder / NOTES), stop, force=force)
    failures = remote.run(clips, at_once, out)
    for line in failures:
        print(f"video: {line}", file=sys.stderr)
    if not quiet:
        print(f"video: {len(clips) - len(failures)} of {len(clips)} clips are in {folder}", file=sys.stderr)
    return 1 if failures else 0
