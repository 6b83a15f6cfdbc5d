"""Lhotse manifests: cuts, or recordings with supervisions, as JSON lines.

They are read without the library lhotse, which imports torch: whether files have changed is asked whenever a study is
planned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, RecordedReader, Reject, Utterance
from headstart.corpora.text_files import read_text, says_its_end
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

MANIFEST = re.compile(r"\.jsonl(\.gz)?$")


class LhotseCorpus(RecordedCorpus):
    """Manifests of lhotse."""

    reader: Literal["lhotse"] = Field(description="`lhotse`: cuts, or recordings with supervisions, of lhotse.")


class LhotseReader(RecordedReader):
    """Reads lhotse's cuts, or its recordings with supervisions."""

    section = LhotseCorpus
    description = Description(
        title="Lhotse manifests",
        layout="""
            manifests/
              cuts_train.jsonl.gz       cuts, whose supervisions are the utterances
              cuts_dev.jsonl.gz
              ...
            or, as `lhotse prepare` writes them:
              NAME_recordings_train.jsonl.gz
              NAME_supervisions_train.jsonl.gz
              ...
            """,
        example="path: manifests, language: en, outside: true",
        source="https://lhotse.readthedocs.io",
        notes=(
            "`lhotse prepare` knows over a hundred corpora; what it writes for them is read here.",
            "The split of a manifest is the name in `splits` that its file name holds, such as `train`; one manifest "
            "alone is divided. Where there are both cuts and recordings with supervisions, the cuts are read.",
            "Audio has to be in files. Cuts that are mixed, padded or changed in speed, and recordings that are "
            "commands, addresses or parts of archives are rejected.",
        ),
    )

    def annotations(self) -> list[Path]:
        """The manifests that the study uses."""
        return sorted({path for paths, _ in self._manifests() for path in paths})

    def audio_files(self) -> Iterator[str]:
        """The files of all recordings."""
        seen = set()
        for paths, _ in self._manifests():
            for _, entry in _lines(paths[0]):
                for source in (entry.get("recording") or entry).get("sources") or []:
                    if source.get("type") == "file" and source["source"] not in seen:
                        seen.add(source["source"])
                        yield source["source"]

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance for each supervision."""
        self.check()
        for paths, split in self._manifests():
            if len(paths) == 1:
                for line, cut in _lines(paths[0]):
                    yield from self._cut(cut, line, split)
                continue
            recordings = {entry.get("id"): entry for _, entry in _lines(paths[0])}
            for line, supervision in _lines(paths[1]):
                known = {"line": line, "split": split, "utterance_id": _text(supervision, "id")}
                recording = recordings.get(supervision.get("recording_id"))
                if recording is None:
                    name = supervision.get("recording_id")
                    yield Reject(**known, reason=f"unknown recording: {name!r} is not in {paths[0].name}")
                else:
                    yield self._utterance(supervision, recording, 0.0, known)

    def _manifests(self) -> list[tuple[list[Path], Split | None]]:
        """The files that are read together, cuts or recordings and supervisions, with their split."""
        files = [path for path in sorted(self.folder.iterdir()) if MANIFEST.search(path.name)]
        groups = [[path] for path in files if "cuts" in path.name]
        if not groups:
            names = {path.name: path for path in files}
            pairs = ((path, path.name.replace("recordings", "supervisions")) for path in files)
            groups = [[path, names[other]] for path, other in pairs if other in names and other != path.name]
        if len(groups) == 1:
            return [(groups[0], None)]
        found = [(paths, self.split_of_file(MANIFEST.sub("", paths[0].name), str(paths[0]))) for paths in groups]
        return [(paths, split) for paths, split in found if split is not None]

    def _cut(self, cut: dict[str, Any], line: int, split: Split | None) -> Iterator[Utterance | Reject]:
        name = _text(cut, "id")
        known = {"line": line, "split": split, "utterance_id": name}
        if cut.get("type", "MonoCut") not in ("MonoCut", "MultiCut", "Cut"):
            yield Reject(**known, reason=f"not a plain cut: {cut['type']}")
        elif not isinstance(cut.get("recording"), dict):
            yield Reject(**known, reason="a cut without a recording: it has features only")
        elif not self.settings.transcripts:
            yield self._utterance({**cut, "start": 0.0, "text": None}, cut["recording"], cut.get("start"), known)
        elif not cut.get("supervisions"):
            yield Reject(**known, reason="empty transcript: the cut has no supervision")
        else:
            several = len(cut["supervisions"]) > 1
            for supervision in cut["supervisions"]:
                own = {**known, "utterance_id": _text(supervision, "id") if several else name}
                yield self._utterance(supervision, cut["recording"], cut.get("start"), own)

    def _utterance(
        self, supervision: dict[str, Any], recording: dict[str, Any], offset: Any, known: dict[str, Any]
    ) -> Utterance | Reject:
        """The utterance of a supervision, whose start counts from `offset` in the recording, in s."""
        try:
            audio = _audio(supervision, recording, offset)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"malformed manifest: {error!r}"
            return Reject(**known, reason=reason)
        text = _text(supervision, "text") or ""
        return Utterance(
            **known,
            audio=audio,
            text=text if self.settings.transcripts else None,
            speaker=_text(supervision, "speaker"),
            language=self._language(_text(supervision, "language")),
        )

    def _language(self, name: str | None) -> str:
        """The language of a supervision where it is a BCP 47 tag; lhotse's recipes write words such as English."""
        return name if name and re.fullmatch(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*", name) else self.settings.language


def _audio(supervision: dict[str, Any], recording: dict[str, Any], offset: Any) -> AudioReference:
    """Where a supervision is; `ValueError`, with the reason, where that is no stretch of a file."""
    if recording.get("transforms"):
        raise ValueError("a recording with transforms, which are not applied; name the original")
    channel = supervision.get("channel", 0)
    channels = channel if isinstance(channel, list) else [channel]
    sources = [one for one in recording["sources"] if set(channels) & set(one["channels"])]
    if len(sources) != 1:
        raise ValueError(f"channels {channels} are in {len(sources)} files, and one is needed")
    source = sources[0]
    if source["type"] != "file":
        raise ValueError(f"audio that is no file but of the kind {source['type']!r}; write it to a file first")
    begin, duration = float(offset) + float(supervision["start"]), float(supervision["duration"])
    if not (begin >= 0 and 0 < duration < float("inf")):
        raise ValueError(f"malformed times: start {begin:g} s, duration {duration:g} s")
    within = list(source["channels"]).index(channels[0]) if len(channels) == 1 and len(source["channels"]) > 1 else None
    return AudioReference(str(source["source"]), begin, duration, within)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The entries of a manifest with their lines.

    Raises:
        CorpusError: a line is no JSON object.
    """
    text = read_text(path)
    says_its_end(path, text)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}, line {number}: not JSON ({error}); write the manifest anew") from None
        if not isinstance(entry, dict):
            raise CorpusError(f"{path}, line {number}: not an entry of a manifest; write the manifest anew")
        yield number, entry


def _text(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return str(value).strip() or None if isinstance(value, str | int) else None
