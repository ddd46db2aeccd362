"""SVG is stored without scripts and references to other files; what is shown does not change."""

from xml.etree import ElementTree as ET

import pytest

from handlers.errors import DecoderLimitError, FileCorruptedError
from handlers.media.vector.sanitizer import sanitize
from handlers.media.vector.svg import check_content, size_of

START = b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'
DOT = b'<circle cx="1" cy="1" r="1"/>'
OUTSIDE = (b"evil", b"alert", b"javascript", b"<script", b"foreignObject", b"onload", b"onclick", b"iframe")
HARMFUL = {
    "a script": b"<script>alert(1)</script>",
    "a script of another file": b'<script xlink:href="https://evil.example/a.js"/>',
    "a script in capitals": b"<SCRIPT>alert(1)</SCRIPT>",
    "a script under a prefix": b'<s:script xmlns:s="http://www.w3.org/2000/svg">alert(1)</s:script>',
    "an html script": b'<script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script>',
    "an event": b'<g onload="alert(1)" onclick="alert(1)"/>',
    "embedded html": b'<foreignObject><p xmlns="http://www.w3.org/1999/xhtml">alert</p></foreignObject>',
    "a frame": b'<iframe xmlns="http://www.w3.org/1999/xhtml" src="https://evil.example"/>',
    "a link that is a script": b'<a href="javascript:alert(1)"><g/></a>',
    "a link with blanks in its scheme": b'<a xlink:href=" java&#9;script:alert(1)"><g/></a>',
    "an outside link": b'<a href="https://evil.example"><g/></a>',
    "an outside picture": b'<image href="https://evil.example/a.png"/>',
    "an outside picture without a scheme": b'<image xlink:href="//evil.example/a.png"/>',
    "a file beside it": b'<use href="evil.svg#a"/>',
    "an svg in a data uri": b'<image href="data:image/svg+xml,%3Csvg onload=alert(1)%3E"/>',
    "a page in a data uri": b'<a href="data:text/html,alert(1)"><g/></a>',
    "an outside pattern": b'<rect fill="url(https://evil.example/a#b)"/>',
    "an outside filter in style": b"<rect style=\"filter:url( 'https://evil.example/a#b' )\"/>",
    "an outside import": b"<style>@import 'https://evil.example/a.css';</style>",
    "an outside font": b"<style>@font-face{font-family:a;src:url(https://evil.example/a.woff)}</style>",
    "an escape in style": b"<style>.a{fill:u\\72l(https://evil.example)}</style>",
    "a word divided by a comment": b"<style>.a{fill:u<!-- -->rl(https://evil.example)}</style>",
    "a word divided by an element": b"<style>.a{fill:u<g/>rl(https://evil.example)}</style>",
    "a word divided by the end of a buffer": b"<style>" + b" " * 8190 + b"@import 'https://evil.example';</style>",
    "an image set": b"<g style=\"background:image-set('https://evil.example/a.png' 1x)\"/>",
    "an animation of a link": b'<a href="#a"><set attributeName="href" to="javascript:alert(1)"/></a>',
    "an animation of an event": b'<set attributeName="onload" to="alert(1)"/>',
    "a motion that names a link": (
        b'<a href="#a"><animateMotion attributeName="href" to="javascript:alert(1)" values="https://evil.example"/></a>'
        b'<animateMotion attributeName="style" to="fill:url(https://evil.example/a#b)"/>'
    ),
    "a motion with an event": b'<animateMotion onbegin="alert(1)" path="url(https://evil.example)"/>',
    "a motion of a script": b'<animateMotion href="javascript:alert(1)" xlink:href="https://evil.example"/>',
    "a motion along an outside path": (
        b'<animateMotion><mpath href="evil.svg#a" xlink:href="https://evil.example/a.svg#a"/></animateMotion>'
    ),
    "a motion along a script": b'<animateMotion><mpath xlink:href="javascript:alert(1)"/></animateMotion>',
    "a motion along a picture": b'<animateMotion><mpath href="data:image/png;base64,evil"/></animateMotion>',
    "a motion along a marked script": (
        '<animateMotion><mpath class="\ufdd1javascript:alert(1)" href=" #a"/></animateMotion>'
        '<animateMotion><mpath class="\ufdd1https://evil.example#a"/></animateMotion>'
        '<animateMotion><mpath class="\ufdd0\ufdd1https://evil.example#a"/></animateMotion>'
    ).encode(),
    "a style sheet": b'<?xml-stylesheet href="https://evil.example/a.css"?>',
    "a comment": b"<!-- evil -->",
}
SHOWN = {
    "a gradient": b'<rect fill="url(#g)" height="2" width="2"/>',
    "a reference": b'<use href="#g"/>',
    "a bitmap": b'<image height="1" href="data:image/png;base64,iVBORw0KGgo=" width="1"/>',
    "style": b"<style>.a{fill:url(#g);stroke:#fff}</style>",
    "text with parts": b"<text>A<tspan>b</tspan><tspan>c</tspan> <tspan>d</tspan></text>",
    "text with lines": b"<text><tspan>a</tspan>\n<tspan>b</tspan></text>",
    "characters": "<text>caf\u00e9 &lt;&amp;&gt; \ue000</text>".encode(),
    "a motion": (
        b'<animateMotion begin="0s" calcMode="linear" dur="2s" fill="freeze" keyPoints="0;1" keyTimes="0;1" '
        b'path="M0,0 L100,0" repeatCount="indefinite" rotate="auto"/>'
    ),
    "a motion through points": b'<animateMotion dur="2s" from="0,0" to="9,9" values="0,0;9,9"/>',
    "a motion along a path of the file": b'<animateMotion dur="2s"><mpath href="#g"/></animateMotion>',
    "a title": b"<title>a &amp; b</title>",
}


@pytest.mark.parametrize("name", HARMFUL)
def test_harmful_content_is_removed_and_the_rest_stays(name: str) -> None:
    _, found = sanitize(START + HARMFUL[name] + DOT + b"</svg>")
    assert DOT in found
    assert [word for word in OUTSIDE if word.lower() in found.lower()] == []
    assert sanitize(found)[1] == found


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_stays(name: str) -> None:
    _, found = sanitize(START + SHOWN[name] + b"</svg>")
    assert SHOWN[name] in found
    assert sanitize(found)[1] == found


def test_target_of_a_motion_is_removed() -> None:
    _, found = sanitize(START + b'<animateMotion attributeName="d" attributeType="XML" path="M0,0"/></svg>')
    assert b"attributeName" not in found
    assert b'path="M0,0"' in found


@pytest.mark.parametrize("reference", [b"href", b"xlink:href"])
def test_motion_keeps_its_reference_to_a_path_of_the_file(reference: bytes) -> None:
    _, found = sanitize(START + b'<animateMotion><mpath class="a" ' + reference + b'="#g"/></animateMotion></svg>')
    assert b'<mpath href="#g"/>' in found


def test_a_doctype_without_content_and_indentation_are_removed() -> None:
    head = b'<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://evil.example/svg11.dtd">\n'
    content = head + START + b"\n  " + DOT + b"\n</svg>\n"
    assert check_content(content) == len(content)
    found = sanitize(content)[1]
    assert b"evil" not in found
    assert b"\n" not in found
    assert ET.fromstring(found).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - made here


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE svg [<!ENTITY a "b">]>' + START + b"<text>&a;</text></svg>",
        b'<!DOCTYPE svg [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>' + START + b"</svg>",
        b'<!DOCTYPE svg [<!ATTLIST svg onload CDATA "alert(1)">]>' + START + b"</svg>",
        START + b"<g></svg>",
        START + b"&undefined;</svg>",
        START,
        START + b"</svg><script/>",
        b"<html><svg/></html>",
        START + b"\xff</svg>",
    ],
)
def test_entities_and_damage_are_refused(content: bytes) -> None:
    with pytest.raises(FileCorruptedError):
        check_content(content)


def test_too_many_and_too_deep_elements_are_refused() -> None:
    for body in (b"<g>" * 300 + b"</g>" * 300, b"<g/>" * 500_001):
        with pytest.raises(DecoderLimitError):
            check_content(START + body + b"</svg>")


@pytest.mark.parametrize(
    ("root", "size"),
    [
        ({"viewBox": "0 0 120 60.5"}, (120, 61)),
        ({"viewBox": "0,0,120,60", "width": "9", "height": "9"}, (120, 60)),
        ({"width": "20px", "height": "10"}, (20, 10)),
        ({"width": "100%", "height": "100%"}, (None, None)),
        ({"viewBox": "0 0 -1 5"}, (None, None)),
        ({"viewBox": "0 0 1e9 99999999999999999"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_size_is_that_of_the_view_box(root: dict[str, str], size: tuple[int | None, int | None]) -> None:
    assert size_of(root) == size
