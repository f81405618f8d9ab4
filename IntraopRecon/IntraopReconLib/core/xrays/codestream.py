"""The size that a compressed frame states about itself, read before a decoder gets to see it.

Native decoders write into a buffer of the size that DICOM states; a damaged file whose frames are of another size could end the process.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

JPEG_START, JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 and JPEG-LS; not DHT, JPG, DAC

FIRST_MARKER, SCAN_MARKER = 0xC0, 0xDA


@dataclass(frozen=True)
class FrameHeader:
    """What a codestream says about its frame: size, samples per pixel, and bits of a sample."""

    rows: int
    columns: int
    components: int
    precision: int


def frame_header(codestream: bytes) -> FrameHeader:
    """Return the header of a JPEG, JPEG-LS or JPEG 2000 frame.

    Raises:
        ValueError: It is none of them, or damaged.

    Source: ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS), T.800 A.5.1 (JPEG 2000).
    """
    try:
        if codestream.startswith(JPEG_START):
            return _jpeg_header(codestream)
        start = codestream.find(JPEG_2000_START) if codestream.startswith(JP2_SIGNATURE) else 0
        if start >= 0 and codestream[start : start + 4] == JPEG_2000_START:
            return _jpeg_2000_header(codestream[start:])
    except (struct.error, IndexError) as error:
        raise ValueError("its header is cut off") from error
    raise ValueError("it does not start as its transfer syntax wants")


def _jpeg_header(codestream: bytes) -> FrameHeader:
    """Walk all segments up to the scan: a decoder that finds a gap between two may end the process."""
    offset, header = len(JPEG_START), None
    while True:
        fill, marker, length = struct.unpack_from(">BBH", codestream, offset)
        if fill != 0xFF or length < 2 or marker < FIRST_MARKER:
            raise ValueError("its header is damaged")
        if marker == SCAN_MARKER and header is not None:
            return header
        if marker in FRAME_MARKERS:
            precision, rows, columns, components = struct.unpack_from(">BHHB", codestream, offset + 4)
            header = FrameHeader(rows, columns, components, precision)
        offset += 2 + length


def _jpeg_2000_header(codestream: bytes) -> FrameHeader:
    right, lower, left, upper = struct.unpack_from(">4I", codestream, 8)
    components, depth = struct.unpack_from(">HB", codestream, 40)
    return FrameHeader(lower - upper, right - left, components, (depth & 0x7F) + 1)
