"""Documents of every kind to sections, and what is refused."""

import io
import zipfile
from pathlib import Path

import pytest

from attune.curate.chunks import chunks, sentences
from attune.curate.reading import Document, document_files, documents
from attune.errors import DataError

BODY = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>'


def docx(path: Path, body: str, name: str = "word/document.xml") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, BODY.format(body))
    return path


def paragraph(text: str, style: str = "") -> str:
    styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{styled}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(path: Path, pages: list[list[str]], *, encrypt: bool = False) -> Path:
    """A PDF of lines of text, written from its specification and not by the library that reads it."""
    if encrypt:
        import pypdf

        writer = pypdf.PdfWriter(clone_from=pdf(path.with_name("open.pdf"), pages))
        writer.encrypt("secret")
        writer.write(path)
        return path
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for at, lines in enumerate(pages):
        shown = "".join(f"({line}) Tj T* " for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {shown}ET".encode("latin-1")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * at} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out = io.BytesIO(b"")
    out.write(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start))
    path.write_bytes(out.getvalue())
    return path


def read(path: Path) -> Document:
    return next(documents([path]))


def test_markdown_goes_by_its_headings(tmp_path):
    path = tmp_path / "guide.md"
    path.write_text(
        "---\nauthor: x\n---\n# Guide\nHello.\n\n## Install\nRun it.\n```sh\n# not a heading\n```\nUsage\n-----\nGo.\n"
    )
    found = read(path)
    assert found.title == "Guide" and found.path == "guide.md"
    assert found.sections == (
        ("Guide", "Hello."),
        ("Install", "Run it.\n```sh\n# not a heading\n```"),
        ("Usage", "Go."),
    )


def test_html_gives_what_a_reader_sees(tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        "<html><head><title>The page</title><style>p{}</style></head><body><nav>Home | About</nav>"
        "<h1>Claims &amp; more</h1><p>First <b>bold</b> text.</p><script>alert('<p>no</p>')</script>"
        "<ul><li>one</li><li>two</li></ul><h2>Table</h2><table><tr><th>a</th><th>b</th></tr>"
        "<tr><td>1</td><td>2</td></tr></table><footer>Copyright</footer></body></html>"
    )
    found = read(path)
    assert found.title == "The page"
    heading, text = found.sections[0]
    assert heading == "Claims & more" and text.split() == "First bold text. one two".split()
    heading, table = found.sections[1]
    assert heading == "Table" and [line for line in table.split("\n") if line.strip()] == ["a | b", "1 | 2"]


def test_html_in_another_encoding_is_read_as_it_says(tmp_path):
    path = tmp_path / "old.html"
    path.write_bytes('<meta charset="iso-8859-1"><p>Größe und Café, 5 Meter.</p>'.encode("latin-1"))
    assert read(path).sections == (("", "Größe und Café, 5 Meter."),)


def test_docx_gives_headings_paragraphs_and_tables_without_deleted_text(tmp_path):
    cell = "<w:tc>{}</w:tc>"
    row = f"<w:tr>{cell.format(paragraph('Fee'))}{cell.format(paragraph('12 dollars'))}</w:tr>"
    deleted = "<w:p><w:r><w:t>Kept </w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    body = paragraph("Rules", "Heading1") + paragraph("One &amp; two.") + deleted + f"<w:tbl>{row}</w:tbl>"
    found = read(docx(tmp_path / "rules.docx", body))
    assert found.title == "Rules"
    assert found.sections == (("Rules", "One & two.\n\nKept\n\nFee | 12 dollars"),)


def test_pdf_gives_running_text_without_repeated_heads(tmp_path):
    pages = [
        [
            "Claims manual",
            f"The board meets on day {n}. It decides about bene-",
            "fits for injured",
            "workers.",
            f"Page {n}",
        ]
        for n in range(1, 5)
    ]
    text = read(pdf(tmp_path / "manual.pdf", pages)).sections[0][1]
    assert "decides about benefits for injured workers." in text
    assert "Claims manual" not in text and "Page" not in text and "day 4" in text


def test_a_folder_gives_its_documents_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("Two.")
    (tmp_path / "a.md").write_text("One.")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "data.csv").write_text("a,b")
    assert [name for _, name in document_files([tmp_path])] == ["a.md", "b/two.txt"]


@pytest.mark.parametrize(
    "name,content,words",
    [
        ("empty.txt", b"", "is empty"),
        ("blank.txt", b" \n\t\n", "holds no text"),
        ("latin.txt", "Größe".encode("latin-1"), "not UTF-8"),
        ("sheet.xlsx", b"PK", "not a kind of document"),
        ("broken.pdf", b"%PDF-1.4 nonsense", "damaged"),
        ("not.pdf", b"hello there, I am a text", "damaged"),
        ("broken.docx", b"PK\x03\x04 nonsense", "damaged"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_file_and_what_to_do(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        list(documents([tmp_path / name]))
    assert name in str(caught.value) and caught.value.fix


def test_hostile_documents_are_refused(tmp_path):
    bomb = tmp_path / "bomb.docx"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            for _ in range(300):
                part.write(b" " * (1 << 20))
    with pytest.raises(DataError, match="unpacks to more than 256 MiB"):
        read(bomb)
    laughs = tmp_path / "laughs.docx"
    with zipfile.ZipFile(laughs, "w") as archive:
        archive.writestr("word/document.xml", '<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>')
    with pytest.raises(DataError, match="declares XML entities"):
        read(laughs)
    with pytest.raises(DataError, match="no word/document.xml"):
        read(docx(tmp_path / "other.docx", "", name="xl/workbook.xml"))
    with pytest.raises(DataError, match="encrypted"):
        read(pdf(tmp_path / "secret.pdf", [["Hidden text."]], encrypt=True))
    (tmp_path / "deep.html").write_text("<div>" * 100_000 + "Deep." + "</div>" * 100_000)
    assert read(tmp_path / "deep.html").sections == (("", "Deep."),)


def test_a_pdf_of_pictures_asks_for_text_recognition(tmp_path):
    with pytest.raises(DataError, match="no text") as caught:
        read(pdf(tmp_path / "scan.pdf", [[]]))
    assert "OCR" in caught.value.fix


@pytest.mark.parametrize(
    "text,count",
    [
        ("Dr. Smith paid 3.50 dollars to J. Doe. He left.", 2),
        ("See O.C.G.A. § 34-9-1, e.g. for claims. Then file!  Really? Yes.", 4),
        ("First line\nsecond line.\n\nNew paragraph", 2),
        ("Items:\n- one\n- two\n1. three", 4),
        ("他去了。她来了！", 2),
        ("", 0),
    ],
)
def test_sentences(text, count):
    found = sentences(text)
    assert len(found) == count, [text[a:b] for a, b in found]
    assert "".join("".join(text[a:b] for a, b in found).split()) == "".join(text.split())


def make(*sections: tuple[str, str]) -> Document:
    return Document("d.txt", "D", "0" * 64, sections)


def test_chunks_hold_whole_sentences_within_the_size_and_lose_nothing():
    text = " ".join(f"Sentence number {n} says something of use." for n in range(100))
    found = list(chunks([make(("H", text))], size=400, overlap=60, least=50))
    assert all(len(piece.text) <= 400 for piece in found) and len(found) > 10
    assert all(piece.text.startswith("Sentence") and piece.text.endswith("use.") for piece in found)
    assert {f"number {n} " for n in range(100)} == {
        f"number {n} " for n in range(100) if any(f"number {n} " in p.text for p in found)
    }
    again = [left.text.split(". ")[-1] == right.text.split(". ")[0] + "." for left, right in zip(found, found[1:])]
    assert all(again)  # the overlap is one sentence
    assert [piece.number for piece in found] == list(range(1, len(found) + 1))
    assert len({piece.id for piece in found}) == len(found)
    without = list(chunks([make(("H", text))], size=400, overlap=0, least=50))
    assert " ".join(piece.text for piece in without) == text


def test_a_chunk_never_crosses_a_heading_unless_the_section_is_tiny():
    long = "This is a sentence of the long section. " * 10
    found = list(chunks([make(("A", long), ("B", long), ("C", "Tiny."), ("D", long))], size=1000, overlap=0, least=100))
    assert [piece.heading for piece in found] == ["A", "B", "C"]
    assert found[2].text.startswith("Tiny.\n\nD\nThis is")


def test_a_sentence_longer_than_the_size_is_cut_at_spaces_and_one_without_spaces_anyway():
    for text in ("word " * 500, "x" * 2500):
        found = list(chunks([make(("", text.strip()))], size=300, overlap=0, least=10))
        assert all(len(piece.text) <= 300 for piece in found)
        assert "".join("".join(piece.text for piece in found).split()) == "".join(text.split())


def test_no_chunk_is_longer_than_the_size_whatever_stands_between_the_sentences():
    text = "\n\n".join(f"Row {n} | cell." for n in range(200))
    for size, overlap in ((200, 0), (250, 100), (1500, 300)):
        found = list(chunks([make(("", text))], size=size, overlap=overlap, least=10))
        assert all(len(piece.text) <= size for piece in found)
        assert all(any(f"Row {n} |" in piece.text for piece in found) for n in range(200))


def test_size_can_be_measured_in_tokens():
    text = "one two three four. " * 30
    found = list(chunks([make(("", text))], size=20, overlap=0, least=1, length=lambda part: len(part.split())))
    assert max(len(piece.text.split()) for piece in found) <= 20 and len(found) >= 6
