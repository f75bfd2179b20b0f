"""Names, sums and S3's ETags: what makes a fetched file the right one."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimdrum.base.errors import WeightsError
from nimdrum.weights.checks import MIB, USUAL_PART_SIZES, Check, Digest, check_for, part_sizes, read_sums, refuse_unsafe
from nimdrum.weights.folder import OURS
from nimdrum.weights.parts import HEADER, Journal

HEX = "0" * 63 + "a"
MD5 = "0" * 32


def etag_of(data: bytes, part_bytes: int) -> str:
    """As S3 makes it for a multipart upload."""
    parts = [data[i : i + part_bytes] for i in range(0, len(data), part_bytes)]
    digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in parts]
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(parts)}"


def test_sha256sums_is_read_as_sha256sum_writes_it() -> None:
    """Text and binary marks, ./ before names, blanks in names, capitals, blank lines, CRLF. A line of the list about
    itself, as a second `sha256sum *` writes it, does not count: it cannot be right."""
    text = f"{HEX}  ./a.bin\r\n{HEX.upper()} *sub/b c.bin\n\n{HEX}  ./SHA256SUMS\n"
    assert read_sums(text) == {"a.bin": HEX, "sub/b c.bin": HEX}


@pytest.mark.parametrize("text", ["hello", f"{HEX} a", f"{HEX[1:]}  a", f"\\{HEX}  a\\nb"])
def test_what_is_no_list_of_sums(text: str) -> None:
    """The line is named, and how to make the file."""
    with pytest.raises(WeightsError, match=r"Line 2 of SHA256SUMS.*sha256sum"):
        read_sums(f"{HEX}  first\n{text}\n")


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "a/./b", "", "a\nb", "a\0b", "a/", *OURS, f"{OURS[0]}/x"]
)
def test_names_that_are_refused(name: str) -> None:
    """Nothing leaves the folder, and nothing takes the place of our own files."""
    with pytest.raises(WeightsError):
        refuse_unsafe(["fine", name], OURS)


def test_a_name_cannot_be_a_file_and_a_folder() -> None:
    """A store can hold both, a disk cannot."""
    refuse_unsafe(["a/b", "a/c", ".gitattributes", "ä b", "..x"], OURS)
    with pytest.raises(WeightsError, match="file and a folder"):
        refuse_unsafe(["a", "a/b"], OURS)


@pytest.mark.parametrize(
    ("scheme", "etag", "sums", "kind"),
    [
        ("s3", f'"{MD5}"', {"x": HEX}, "sha256"),
        ("s3", f'"{MD5}"', {}, "md5"),
        ("s3", f'"{MD5}-12"', {}, "multipart"),
        ("s3", None, {}, "size"),
        ("s3", '"not-an-md5"', {}, "size"),
        ("https", f'"{MD5}"', {}, "size"),
        ("az", '"0x8D4BCC2E4835CD0"', {}, "size"),
        ("gs", "-CKicn4fknMsCEAE=", {}, "size"),
    ],
)
def test_which_check_counts(scheme: str, etag: str | None, sums: dict[str, str], kind: str) -> None:
    """A sum comes first; an ETag counts only where it is known to be an MD5."""
    assert check_for(scheme, "x", 100 * MIB, etag, sums).kind == kind


@settings(max_examples=100)
@given(st.sampled_from(USUAL_PART_SIZES), st.integers(1, 3 * 10**12))
def test_usual_part_sizes_are_found(part_bytes: int, size: int) -> None:
    """Never more than four candidates, each of them makes that many parts, and a long upload's own is among them."""
    count = -(-size // part_bytes)
    found = part_sizes(size, count)
    assert len(found) <= 4
    assert all(-(-size // each) == count for each in found)
    if count >= 20:
        assert part_bytes in found


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=200), st.integers(1, 64), st.lists(st.integers(1, 70), min_size=1))
def test_a_multipart_etag_in_any_pieces(data: bytes, part_bytes: int, cuts: list[int]) -> None:
    """The digest is that of S3 however the bytes arrive, and one changed bit is seen."""
    check = Check("multipart", etag_of(data, part_bytes), (part_bytes + 1000, part_bytes))
    for content, right in ((data, True), (bytes([data[0] ^ 1]) + data[1:], False)):
        digest, position, turn = Digest(check), 0, 0
        while position < len(content):
            size = cuts[turn % len(cuts)]
            digest.update(content[position : position + size])
            position, turn = position + size, turn + 1
        assert digest.verdict() is right


def test_digests_of_whole_files() -> None:
    """SHA-256 and MD5, and no verdict where there is nothing to compare with."""
    data = b"weights"
    for kind, value in (
        ("sha256", hashlib.sha256(data).hexdigest()),
        ("md5", hashlib.md5(data, usedforsecurity=False).hexdigest()),
    ):
        for content, right in ((data, True), (b"weighed", False)):
            digest = Digest(Check(kind, value))
            digest.update(content)
            assert digest.verdict() is right
    assert Digest(Check("size")).verdict() is None
    assert not Digest(Check("multipart", f"{MD5}-3", ())).wants_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (f"{HEADER}\nabc 0\nabc 2\ndef 1\n", {"abc": {0, 2}, "def": {1}}),
        (f"{HEADER}\nabc 0\nabc 1", {"abc": {0}}),
        (f"{HEADER}\nabc 0\ndef 0\nabc -\nabc 3\n", {"abc": {3}, "def": {0}}),
        (f"{HEADER}\nabc 0\nab\0\0\0\nabc x\n", {"abc": {0}}),
        ("nimdrum-parts 1 4096\nabc 0\n", {}),
        ("\0\0\0\0", {}),
    ],
    ids=["none", "parts", "torn line", "forgotten", "garbage", "another part size", "not a journal"],
)
def test_a_journal_is_read_as_far_as_it_goes(tmp_path: Path, text: str, expected: dict[str, set[int]]) -> None:
    """A torn line is a part that is fetched again; what is added later is read again."""
    path = tmp_path / "journal"
    path.write_text(text)
    journal = Journal(path)
    assert journal.open() == expected
    journal.add([("new", 7)])
    journal.close()
    again = Journal(path)
    assert again.open() == {**expected, "new": {7}}
    again.close()
