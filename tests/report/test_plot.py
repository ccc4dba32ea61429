"""Letters that the pictures' font lacks: an installed font draws them, or the page says that none does."""

from datetime import UTC, datetime
from itertools import permutations

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from made_results import make_world, write_made_results
from matplotlib import font_manager

from socrates.report.page import make_report, read_material
from socrates.report.plot import Point, draw_points, styled


def write_font(path, letters, side):
    """A font in which each of the letters is a square."""
    builder, names = FontBuilder(1000, isTTF=True), [f"uni{ord(letter):04X}" for letter in letters]
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, side), (side, side), (side, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, letters), names, strict=True)))
    builder.setupGlyf(dict.fromkeys([".notdef", *names], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (side, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def installed(monkeypatch, *files):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_, **__: list(files))


def drawn(*names):
    with styled():
        return draw_points("title", [Point(name, 0.5, (0.2, 0.8)) for name in names], "unit", name="x")


def test_letters_are_drawn_with_an_installed_font_that_has_them_noto_first(tmp_path, monkeypatch, capfd, recwarn):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    files = [
        str(tmp_path / "broken.ttf"),
        write_font(tmp_path / "Any.ttf", "环境", 300),
        write_font(tmp_path / "NotoSansMade-Regular.ttf", "环", 900),
        write_font(tmp_path / "Color.ttf", "境", 600),
    ]
    installed(monkeypatch)
    boxes = drawn("环境 conditions", "control")
    pictures = []
    for order in permutations(files):
        installed(monkeypatch, *order)
        pictures.append(drawn("环境 conditions", "control"))
    assert len({(picture.svg, picture.png) for picture in pictures}) == 1 and pictures[0].svg != boxes.svg
    assert {picture.note for picture in pictures} == {""}
    installed(monkeypatch, *files[1:2])
    other = drawn("环境 conditions", "control")
    assert other.note == "" and other.svg not in (boxes.svg, pictures[0].svg)
    said = capfd.readouterr()
    assert not recwarn.list and (said.out, said.err) == ("", "")  # nor of a font that has no bold


@pytest.mark.parametrize("latin", ["plain", "Ελλάδα – Škoda", "العربية"])
def test_letters_that_the_font_has_look_as_before(monkeypatch, latin):
    installed(monkeypatch)
    before = drawn(latin)
    installed(monkeypatch, "/nowhere/font.ttf")
    assert drawn(latin).svg == before.svg and before.note == ""


def test_the_page_says_which_letters_no_font_has(tmp_path, monkeypatch, capfd, recwarn):
    installed(monkeypatch)
    write_made_results(tmp_path / "基线模型的训练前结果", make_world(), 0.5, model="m")
    write_made_results(tmp_path / "checkpoint", make_world(), 0.5, model="m")
    text, plots = make_report(
        read_material([tmp_path / "基线模型的训练前结果", tmp_path / "checkpoint"]), datetime(2030, 1, 2, tzinfo=UTC)
    )
    assert "such as 基 线 模 型 的 训. Install a font" in text
    shown = [one for one in plots if one.note]
    assert shown and text.count("shows boxes") == len(shown) < len(plots)
    said = capfd.readouterr()
    assert not recwarn.list and (said.out, said.err) == ("", "")
